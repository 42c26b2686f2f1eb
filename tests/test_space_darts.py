import re
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from latbench.errors import ParseError, ShapeError, UsageError
from latbench.spaces.cells.operation import Operation
from latbench.spaces.darts import DartsSpace
from latbench.spaces.darts.genotype import EDGES, NODES, OPERATIONS, Genotype

SMALL = DartsSpace(cells=5, channels=4, image=8)

# Published cells, as their authors print them.
DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
PC_DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)], normal_concat=range(2, 6), "
    "reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], reduce_concat=range(2, 6))"
)


@st.composite
def cells(draw: st.DrawFn) -> list[tuple[str, int]]:
    kinds = st.sampled_from(OPERATIONS[1:])
    pairs = []
    for node in NODES:
        for source in draw(st.lists(st.integers(0, node - 1), min_size=2, max_size=2, unique=True)):
            pairs.append((draw(kinds), source))
    return pairs


genotypes = st.builds(Genotype, normal=cells(), reduce=cells())


@settings(deadline=None)
@given(genotypes)
def test_text_and_encoding_round_trips_are_the_identity(genotype: Genotype) -> None:
    assert SMALL.parse(str(genotype)) == genotype
    assert SMALL.decode(SMALL.encode([genotype])[0]) == genotype


@pytest.mark.parametrize("text", [DARTS_V1, DARTS_V2, PC_DARTS])
def test_published_genotypes_parse(text: str) -> None:
    genotype = SMALL.parse(text)
    written = re.findall(r"\('(\w+)', (\d)\)", text)
    assert sorted((kind, str(source)) for kind, source in genotype.normal + genotype.reduce) == sorted(written)


def test_the_order_of_a_node_s_edges_does_not_matter() -> None:
    swapped = PC_DARTS.replace("('sep_conv_3x3', 1), ('skip_connect', 0)", "('skip_connect', 0), ('sep_conv_3x3', 1)")
    assert swapped != PC_DARTS
    assert SMALL.parse(swapped) == SMALL.parse(PC_DARTS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "('sep_conv_3x3', 1)",
            "('sep_conv_3x4', 1)",
            r"normal cell, node 2 \(column 18\): .*did you mean 'sep_conv_3x3'",
        ),
        ("('sep_conv_3x3', 1)", "('none', 1)", r"normal cell, node 2 \(column 18\): no operation 'none'"),
        ("('avg_pool_3x3', 0)", "('avg_pool_3x3', 5)", r"normal cell, node 5 \(column \d+\): reads node 5: .* 0 to 4"),
        (
            "('sep_conv_3x3', 3)",
            "('sep_conv_3x3', 0)",
            r"reduce cell, node 4 \(column \d+\): both edges come from node 0",
        ),
        ("('sep_conv_3x3', 1), ", "", "normal cell: 7 edges: give 8"),
        ("('sep_conv_3x3', 1)", "'sep_conv_3x3'", r"normal cell \(column 18\): 'sep_conv_3x3' is not a pair"),
        ("normal=[", "normal=sum([", r"not a genotype \(column \d+\)"),
        ("range(2, 6), reduce=", "range(2, 5), reduce=", r"normal_concat \(column \d+\) is range\(2, 5\)"),
        ("reduce_concat", "reduced_concat", "keywords"),
        ("Genotype(", "__import__('os').abort(", "not a genotype"),
        (" reduce=", "\nreduce=[", r"not a genotype \(line \d, column \d+\)"),
    ],
)
def test_a_genotype_that_does_not_parse_says_where(old: str, new: str, message: str) -> None:
    broken = PC_DARTS.replace(old, new, 1)
    assert broken != PC_DARTS
    with pytest.raises(ParseError, match=message):
        SMALL.parse(broken)


def test_a_node_that_keeps_another_number_of_edges_is_no_encoding() -> None:
    encoding = SMALL.encode([SMALL.parse(PC_DARTS)])[0].reshape(2, len(EDGES), len(OPERATIONS))
    encoding[1, EDGES.index((3, 4))] = np.eye(len(OPERATIONS))[0]
    with pytest.raises(ParseError, match="reduce cell, node 4: 1 edges are kept"):
        SMALL.decode(encoding.ravel())


@settings(deadline=None)
@given(genotypes, st.sampled_from(list(permutations(NODES))))
def test_renumbering_the_nodes_keeps_the_canonical_text(genotype: Genotype, order: tuple[int, ...]) -> None:
    number = {0: 0, 1: 1} | dict(zip(order, NODES, strict=True))
    renumbered = {}
    for position, (kind, source) in enumerate(genotype.normal):
        renumbered.setdefault(number[2 + position // 2], []).append((kind, number[source]))
    pairs = [pair for node in NODES for pair in renumbered[node]]
    try:
        twin = Genotype(pairs, genotype.reduce)
    except ParseError:  # the renumbering makes an edge point backward
        return
    assert SMALL.canonical(twin) == SMALL.canonical(genotype)


def test_genotypes_that_differ_have_other_canonical_texts() -> None:
    genotype = SMALL.parse(PC_DARTS)
    (_, source), *rest = genotype.normal
    assert SMALL.canonical(Genotype((("dil_conv_5x5", source), *rest), genotype.reduce)) != SMALL.canonical(genotype)
    assert SMALL.canonical(Genotype(genotype.reduce, genotype.normal)) != SMALL.canonical(genotype)


def test_samples_are_uniform() -> None:
    kept = SMALL.encode(SMALL.sample(4000, seed=0)).reshape(4000, 2, len(EDGES), len(OPERATIONS)).mean(axis=(0, 1))
    for edge, (_, node) in enumerate(EDGES):
        np.testing.assert_allclose(kept[edge, 1:], 2 / node / 7, atol=0.02)


@pytest.mark.parametrize(
    "config",
    [{"cells": 2}, {"channels": 0}, {"image": 30}, {"image": 0}, {"classes": 1}, {"cells": 8.0}, {"cells": True}],
)
def test_invalid_configurations_name_the_field(config: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(config))):
        DartsSpace(**config)


def test_alphas_of_the_wrong_shape_name_both_shapes() -> None:
    with pytest.raises(ShapeError, match=r"\(14, 8\), \(14, 8\)\], not \[\(14, 7\)\]"):
        SMALL.relaxation().expected([torch.zeros(14, 7)])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10), st.floats(0, 30))
def test_relaxed_cells_keep_eight_edges(seed: int, temperature: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    alphas = [scale * torch.randn(14, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    edges = SMALL.relaxation().expected(alphas, temperature=temperature).reshape(2, 14, 8)
    torch.testing.assert_close(edges.sum(dim=-1), torch.ones(2, 14, dtype=torch.float64))
    torch.testing.assert_close(edges[..., 1:].sum(dim=(1, 2)), torch.full((2,), 8.0, dtype=torch.float64))


def test_relaxed_encoding_is_the_mean_of_the_documented_draws() -> None:
    rng = np.random.default_rng(0)
    alphas = rng.normal(size=(2, 14, 8))
    temperature, draws = 1.5, 20_000
    q = np.exp(alphas) / np.exp(alphas).sum(axis=-1, keepdims=True)
    log_q = np.log(q) / temperature
    log_w = np.log(np.exp(log_q[..., 1:]).sum(axis=-1))
    # Keeping the two strongest edges under Gumbel noise is drawing twice without replacement.
    noisy = log_w + rng.gumbel(size=(draws, 2, 14))
    kept = np.zeros_like(noisy)
    for node in NODES:
        edges = [index for index, (_, end) in enumerate(EDGES) if end == node]
        top = np.argsort(noisy[..., edges], axis=-1)[..., -2:]
        np.put_along_axis(kept, np.array(edges)[top], 1, axis=-1)
    mean = kept.mean(axis=0)[..., None] * np.exp(log_q - log_w[..., None])[..., 1:]
    relaxed = SMALL.relaxation().expected([torch.from_numpy(alpha) for alpha in alphas], temperature=temperature)
    np.testing.assert_allclose(relaxed.reshape(2, 14, 8)[..., 1:], mean, atol=0.012)


@pytest.mark.parametrize("space", [SMALL, DartsSpace(cells=6, channels=4, image=16)])
def test_networks_run_the_operations_that_their_columns_list(space: DartsSpace) -> None:
    for genotype in space.sample(5, seed=1):
        (encoding,) = space.encode([genotype])
        listed: Counter[Operation] = Counter()
        for column, chosen in zip(space.column_operations(), encoding, strict=True):
            if chosen:
                listed.update(column)
        expected = {(repr(space.build_operation(op)), op.channels_in, op.size): 0 for op in listed}
        for operation, count in listed.items():
            expected[repr(space.build_operation(operation)), operation.channels_in, operation.size] += count
        assert edges_that_ran(space.build(genotype), (3, space.image, space.image)) == expected


def edges_that_ran(network: nn.Module, shape: tuple[int, ...]) -> Counter[tuple[str, int, int]]:
    """Count modules on edges by their structure, input channels and input size, identities aside."""
    ran: Counter[tuple[str, int, int]] = Counter()

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        ran[repr(module), inputs[0].shape[1], inputs[0].shape[2]] += 1

    for name, module in network.named_modules():
        if re.search(r"\.edges\.\d+$", name) and not isinstance(module, nn.Identity):
            module.register_forward_pre_hook(count)
    network.eval()(torch.zeros(1, *shape))
    return ran


def test_networks_have_as_many_weights_as_the_paper_says() -> None:
    # DARTS (table 1) gives 3.3 million for 20 cells of 36 channels, its auxiliary head left out.
    network = DartsSpace(cells=20, channels=36).build(DartsSpace().parse(DARTS_V2))
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(3.3e6, rel=0.02)


def test_untrained_networks_tell_inputs_apart() -> None:
    # Else comparing a compiled network's outputs with the module's would show nothing.
    space = DartsSpace()
    for genotype in space.sample(5, seed=0):
        with torch.no_grad():
            logits = space.build(genotype).eval()(torch.randn(8, 3, space.image, space.image))
        assert logits.std(dim=0).mean() > 0.005 * logits.abs().mean()


def test_the_supernet_mixes_all_operations_by_the_softmax_of_its_alphas() -> None:
    supernet = SMALL.supernet().eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for alpha in supernet.alphas():
            assert 0 < alpha.abs().max() < 0.01
            alpha.fill_(0)
        uniform = supernet(x)
        for alpha in supernet.alphas():
            alpha.fill_(5)
        torch.testing.assert_close(supernet(x), uniform)
        for alpha in supernet.alphas():
            alpha[:, 0] = 50
        # Where `none` takes all the weight, no edge passes anything on: the head's bias alone is left.
        torch.testing.assert_close(supernet(x), supernet.network.head[-1].bias.expand(2, -1))


def test_a_hook_on_one_network_does_not_run_in_another() -> None:
    first, second = (SMALL.build(SMALL.parse(PC_DARTS)) for _ in range(2))
    called = []
    for module in first.modules():
        module.register_forward_hook(lambda *_: called.append(1))
    second(torch.zeros(2, 3, 8, 8))
    assert not called


def test_networks_are_built_where_torch_is_told_to() -> None:
    genotype = SMALL.parse(PC_DARTS)
    SMALL.build(genotype)
    with torch.device("meta"):
        network = SMALL.build(genotype)
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("kind", OPERATIONS[1:])
@pytest.mark.parametrize("stride", [1, 2])
def test_operations_work_on_the_smallest_images(kind: str, stride: int) -> None:
    output = SMALL.build_operation(Operation(kind, 4, 4, 2, stride))(torch.randn(2, 4, 2, 2))
    assert output.shape == (2, 4, 2 // stride, 2 // stride)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ParseError, match="did you mean 'max_pool_3x3 4->4 8x8 s1'"):
        SMALL.operation("max_pool_3 4->4 8x8 s1", batch=1)


def test_an_encoding_weighs_what_runs_as_the_alphas_do() -> None:
    supernet = SMALL.supernet()
    x = torch.randn(2, 3, 8, 8)
    mixed = torch.cat([alpha.softmax(dim=-1).flatten() for alpha in supernet.alphas()])
    torch.testing.assert_close(supernet(x, encoding=mixed), supernet(x))
    torch.testing.assert_close(supernet(x, encoding=mixed.detach().numpy()), supernet(x))


def test_a_node_of_a_reduction_cell_that_nothing_reaches_has_the_size_of_the_others() -> None:
    supernet = SMALL.supernet()
    encoding = torch.from_numpy(SMALL.encode([SMALL.parse(PC_DARTS)])[0]).reshape(2, len(EDGES), len(OPERATIONS))
    encoding[1, [EDGES.index((source, 2)) for source in (0, 1)]] = 0
    assert supernet(torch.randn(2, 3, 8, 8), encoding=encoding.flatten()).shape == (2, 10)
