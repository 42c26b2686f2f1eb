"""How much of published networks the direct ONNX writer writes, how exactly, and at which share of torch's cost.

Vision: the smallest network of each model family of timm that torch can run; text, audio and others: tiny transformers
built from the configurations of ``transformers``. Both are the benchmark's, never latbench's:
``pip install timm transformers``. Weights are drawn anew, so that a branch that was forgotten shows in the outputs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import sys
import time
import traceback
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

import latbench.onnx_export
from benchmarks.machine import header, table
from latbench.onnx_export import FallbackWarning, export_onnx

Sample = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]
MAX_PARAMETERS = 50e6
CANDIDATES = 3
"""Networks of a family that are built to find its smallest: all 1,300 of timm take an hour."""
SMALL = (
    "test",
    "atto",
    "femto",
    "pico",
    "nano",
    "zepto",
    "xxs",
    "xxtiny",
    "tiny",
    "xs",
    "mini",
    "micro",
    "lite",
    "t",
    "s",
    "small",
    "b0",
    "050",
    "18",
    "26",
)
TOLERANCE = 1e-3
"""Relative error up to which outputs count as equal: random weights amplify rounding more than trained ones."""


@dataclass(frozen=True)
class Outcome:
    """What became of one network.

    Args:
        name: of the network.
        verdict: ``direct``, ``fallback`` (torch's exporter wrote it), ``failed`` (nobody, or wrongly), or ``rounding``:
            written directly, and off by no more than the module is off in float32 itself, from float64.
        reason: why it is not direct.
        seconds: what `export_onnx` took.
        torch_seconds: what torch's exporter takes; 0 where it was not asked.
        error: the largest difference of an output, relative to the largest output.
        batch_norms: those that stay in the file, of those that the module has.
    """

    name: str
    verdict: str
    reason: str = ""
    seconds: float = 0.0
    torch_seconds: float = 0.0
    error: float = 0.0
    batch_norms: tuple[int, int] = (0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("timm", "transformers"))
    parser.add_argument("--match", default="", help="networks whose name contains this")
    parser.add_argument(
        "--official", type=int, default=5, help="networks that torch's exporter writes too, for its time"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds for one network")
    parser.add_argument(
        "--no-fallback", action="store_true", help="do not have torch write what the writer does not know"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    works = [work for work in ("timm", "transformers") if arguments.only in (None, work)]
    found = {work: list(outcomes(work, arguments)) for work in works}
    if arguments.json:
        print(json.dumps([value for work in works for value in summary(work, found[work])], indent=1))
        return
    print(header("The direct ONNX writer on published networks, weights randomised"))
    for work in works:
        print(report(work, found[work]))


def summary(work: str, found: list[Outcome]) -> list[dict[str, Any]]:
    """Return a work's figures with their goals."""
    direct = sum(outcome.verdict == "direct" for outcome in found)
    failed = sum(outcome.verdict == "failed" for outcome in found)
    share = direct / max(len(found), 1)
    goal = 0.95 if work == "timm" else 25 / 30
    return [
        {"work": f"{work}: share written directly", "value": round(share, 4), "goal": goal, "met": share >= goal},
        {"work": f"{work}: networks failed", "value": failed, "goal": 0, "met": failed == 0},
    ]


def report(work: str, found: list[Outcome]) -> str:
    """Return a work's figures as Markdown: counts, and a row for each network that is not written directly."""
    counts = Counter(outcome.verdict for outcome in found)
    direct = [outcome for outcome in found if outcome.verdict == "direct"]
    shares = [outcome.seconds / outcome.torch_seconds for outcome in direct if outcome.torch_seconds]
    lines = [
        f"{work}: {len(found)} networks; "
        + ", ".join(f"{counts[v]} {v}" for v in ("direct", "fallback", "rounding", "failed"))
    ]
    if direct:
        errors = [outcome.error for outcome in direct]
        lines.append(f"median error {np.median(errors):.1e}, largest {max(errors):.1e}; ")
        lines[-1] += f"median export {np.median([outcome.seconds for outcome in direct]) * 1e3:.0f} ms"
        unfolded = sum(left > 0 for left, _ in (outcome.batch_norms for outcome in direct))
        lines.append(
            f"{unfolded} of them keep batch norms, of {sum(o.batch_norms[1] > 0 for o in direct)} that have some"
        )
    if shares:
        lines.append(f"share of torch.onnx.export's time: 1/{1 / np.median(shares):.0f} ({len(shares)} networks)")
    rows = [[o.name, o.verdict, o.reason] for o in found if o.verdict != "direct"]
    return "\n".join(lines) + "\n\n" + (table(["network", "verdict", "why"], rows) if rows else "")


def outcomes(work: str, arguments: argparse.Namespace) -> Iterator[Outcome]:
    """Try each network in a process of its own: some of them are killed, for memory or time."""
    names = [name for name in NAMES[work]() if arguments.match in name]
    context = multiprocessing.get_context("fork")
    official = 0
    for name in names:
        receiver, sender = context.Pipe(duplex=False)
        with_torch = official < arguments.official
        process = context.Process(target=_child, args=(sender, work, name, with_torch, not arguments.no_fallback))
        process.start()
        sender.close()
        outcome = None
        if receiver.poll(arguments.limit):
            try:
                outcome = receiver.recv()
            except EOFError:
                outcome = Outcome(name, "failed", "the process died")
        process.kill()
        process.join()
        outcome = outcome or Outcome(name, "failed", f"over {arguments.limit:.0f} s")
        official += outcome.torch_seconds > 0
        if outcome.verdict != "not run":
            print(
                f"{outcome.verdict:8} {outcome.name:36} {outcome.error:.1e} {outcome.reason}",
                file=sys.stderr,
                flush=True,
            )
            yield outcome


def _child(sender: Any, work: str, name: str, with_torch: bool, fallback: bool) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        module, inputs = BUILD[work](name)
        expected = _outputs(module, inputs)
    except Exception as error:  # noqa: BLE001 - a network that torch cannot run is none of the writer's
        sender.send(Outcome(name, "not run", f"{type(error).__name__}: {error}"[:120]))
        return
    try:
        sender.send(_tried(name, module, inputs, expected, with_torch=with_torch, fallback=fallback))
    except Exception as error:  # noqa: BLE001 - a network that fails is a result
        traceback.print_exc(limit=-3)
        sender.send(Outcome(name, "failed", f"{type(error).__name__}: {error}".partition("\n")[0][:200]))


def _tried(
    name: str, module: nn.Module, inputs: Sample, expected: list[NDArray[Any]], *, with_torch: bool, fallback: bool
) -> Outcome:
    if not fallback:
        setattr(latbench.onnx_export, "write_with_torch", _refuse)  # noqa: B010 - a stand-in, not an assignment of the API
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            data = export_onnx(module, inputs)
        except NotWrittenError:
            data = b""
    seconds = time.perf_counter() - start
    reasons = [str(w.message).partition(": torch.onnx")[0] for w in caught if issubclass(w.category, FallbackWarning)]
    if not data:
        return Outcome(name, "fallback", reasons[0], seconds)
    error = _error(data, inputs, expected)
    verdict, why = "fallback" if reasons else "direct", reasons[0] if reasons else ""
    if not error <= TOLERANCE:
        own = _rounding(module, inputs, expected)
        verdict = "rounding" if not reasons and error <= 2 * own else "failed"
        why = f"error {error:.1e}, of float32 alone {own:.1e}"
    torch_seconds = _torch_seconds(module, inputs) if with_torch and verdict == "direct" else 0.0
    return Outcome(
        name,
        verdict,
        why,
        seconds,
        torch_seconds,
        error,
        (
            data.count(b"BatchNormalization"),
            sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()),
        ),
    )


def _refuse(*_: Any) -> bytes:
    raise NotWrittenError


class NotWrittenError(Exception):
    """The direct writer does not know the network, and torch is not to be asked."""


def _torch_seconds(module: nn.Module, inputs: Sample) -> float:
    start = time.perf_counter()
    samples = tuple(map(torch.from_numpy, inputs.values()))
    try:
        torch.onnx.export(module, samples, dynamo=True, verbose=False)
    except Exception:  # noqa: BLE001 - its time counts only where it writes
        return 0.0
    return time.perf_counter() - start


def _outputs(module: nn.Module, inputs: Sample) -> list[NDArray[Any]]:
    with torch.inference_mode():
        result = module(*map(torch.from_numpy, inputs.values()))
    return [tensor.numpy() for tensor in _tensors(result)]


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, tuple | list | Mapping):
        for item in result.values() if isinstance(result, Mapping) else result:
            yield from _tensors(item)


def _error(data: bytes, inputs: Sample, expected: list[NDArray[Any]]) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return _difference(session.run(None, inputs), expected)


def _rounding(module: nn.Module, inputs: Sample, expected: list[NDArray[Any]]) -> float:
    """Return the error of a module's outputs themselves: how far they are from those in float64."""
    exact = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in inputs.items()}
    return _difference(expected, _outputs(module.double(), exact))


def _difference(results: list[NDArray[Any]], expected: list[NDArray[Any]]) -> float:
    """Return the largest difference of an output, relative to the largest output; infinite for other shapes."""
    if [x.shape for x in results] != [x.shape for x in expected]:
        return float("inf")
    errors = [0.0]
    for given, wanted in zip(results, expected, strict=True):
        scale = max(float(np.abs(wanted).max(initial=0)), 1e-6)
        errors.append(float(np.abs(given.astype(float) - wanted).max(initial=0)) / scale)
    return max(errors)


def randomise(module: nn.Module) -> nn.Module:
    """Draw weights anew: every branch matters, and activations keep their scale."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                fan_in = max(parameter[0].numel(), 1)
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
            else:
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 0.5 + 0.75)
        for child in module.modules():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                mean, variance = child.running_mean, child.running_var
                if mean is not None and variance is not None:
                    mean.copy_(torch.randn(mean.shape, generator=generator) * 0.1)
                    variance.copy_(torch.rand(variance.shape, generator=generator) + 0.5)
    return module.eval()


def timm_names() -> list[str]:
    """Return the smallest network of each family of timm, among those whose names promise to be small."""
    timm = import_timm()
    names = []
    for family in sorted(timm.list_modules()):
        members = sorted(timm.list_models(module=family), key=_promise)[:CANDIDATES]
        sizes = {name: _size(timm, name) for name in members}
        fitting = {name: size for name, size in sizes.items() if 0 < size <= MAX_PARAMETERS}
        if fitting:
            names.append(min(fitting, key=lambda name: (fitting[name], name)))
    return names


def _promise(name: str) -> tuple[int, int, str]:
    words = name.replace(".", "_").split("_")
    ranks = [rank for rank, word in enumerate(SMALL) if word in words or f"_{word}" in name]
    return min(ranks, default=len(SMALL)), len(name), name


def _size(timm: Any, name: str) -> int:
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    except Exception:  # noqa: BLE001 - it cannot be built without data or an optional package
        return 0


def build_timm(name: str) -> tuple[nn.Module, Sample]:
    """Build a network of timm with its own sample input."""
    module = import_timm().create_model(name)
    shape = module.pretrained_cfg.get("input_size", (3, 224, 224))
    x = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    return randomise(module), {"x": x}


def import_timm() -> Any:
    """Import timm; its models need no torchvision, but its imports do, and no torchvision fits every torch."""
    try:
        importlib.import_module("torchvision")
    except Exception:  # noqa: BLE001 - absent, or built for another torch
        sys.meta_path.append(_EmptyTorchvision())
    return importlib.import_module("timm")


class _EmptyTorchvision:
    """Finds every module of torchvision: an empty one whose names are all classes."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".", maxsplit=1)[0] == "torchvision" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: _Named(name, (nn.Module,), {}) if name[:2] != "__" else _missing(name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave it empty."""


class _Named(type):
    """A class whose attributes are their own names, as those of an enumeration of strings."""

    def __getattr__(cls, name: str) -> str:
        return name if name.isupper() else _missing(name)


def _missing(name: str) -> Any:
    raise AttributeError(name)


TINY: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
"""What makes a text model tiny, by the names that most configurations share."""

TEXT: Shapes = {"input_ids": (1, 16)}
IMAGE: Shapes = {"pixel_values": (1, 3, 64, 64)}
PICTURE: dict[str, Any] = {"image_size": 64, "patch_size": 16}

TRANSFORMERS: dict[str, tuple[dict[str, Any], Shapes]] = {
    "Bert": (TINY, TEXT),
    "Roberta": (TINY, TEXT),
    "DistilBert": ({"dim": 64, "n_heads": 4, "n_layers": 2, "hidden_dim": 128, "vocab_size": 1000}, TEXT),
    "Albert": ({**TINY, "embedding_size": 32}, TEXT),
    "Electra": ({**TINY, "embedding_size": 32}, TEXT),
    "MobileBert": ({**TINY, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}, TEXT),
    "Deberta": (TINY, TEXT),
    "MPNet": (TINY, TEXT),
    "SqueezeBert": ({**TINY, "embedding_size": 64}, TEXT),
    "ConvBert": ({**TINY, "embedding_size": 64}, TEXT),
    "GPT2": ({"n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 1000, "use_cache": False}, TEXT),
    "GPTNeoX": ({**TINY, "use_cache": False}, TEXT),
    "OPT": ({**TINY, "ffn_dim": 128, "word_embed_proj_dim": 64, "use_cache": False}, TEXT),
    "Llama": ({**TINY, "num_key_value_heads": 2, "use_cache": False}, TEXT),
    "Mistral": ({**TINY, "num_key_value_heads": 2, "head_dim": 16, "use_cache": False}, TEXT),
    "Qwen2": ({**TINY, "num_key_value_heads": 2, "use_cache": False}, TEXT),
    "Qwen3": ({**TINY, "num_key_value_heads": 2, "head_dim": 16, "use_cache": False}, TEXT),
    "Gemma": ({**TINY, "num_key_value_heads": 1, "head_dim": 16, "use_cache": False}, TEXT),
    "Phi": ({**TINY, "use_cache": False}, TEXT),
    "Bloom": ({"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000, "use_cache": False}, TEXT),
    "ModernBert": (
        {**TINY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        TEXT,
    ),
    "T5Encoder": ({"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 1000}, TEXT),
    "ViT": ({**TINY, **PICTURE}, IMAGE),
    "DeiT": ({**TINY, **PICTURE}, IMAGE),
    "Beit": ({**TINY, **PICTURE}, IMAGE),
    "Dinov2": ({**TINY, **PICTURE}, IMAGE),
    "Swin": ({"image_size": 64, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}, IMAGE),
    "Segformer": ({"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1]}, IMAGE),
    "CLIPVision": ({**TINY, **PICTURE}, IMAGE),
    "Wav2Vec2": (
        {
            **TINY,
            "conv_dim": [32] * 3,
            "conv_kernel": [10, 3, 2],
            "conv_stride": [5, 2, 2],
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
        {"input_values": (1, 1600)},
    ),
}
"""Configuration and input shapes of each tiny transformer."""


def build_transformer(name: str) -> tuple[nn.Module, Sample]:
    """Build a tiny transformer; its inputs are token ids, pixels or a waveform."""
    transformers = importlib.import_module("transformers")
    settings, shapes = TRANSFORMERS[name]
    config_name = "T5Config" if name == "T5Encoder" else f"{name}Config"
    model = getattr(transformers, f"{name}Model")(getattr(transformers, config_name)(**settings))
    random = np.random.default_rng(0)
    inputs = {
        key: random.integers(3, 1000, shape) if key == "input_ids" else random.standard_normal(shape, dtype=np.float32)
        for key, shape in shapes.items()
    }
    return _Tensors(randomise(model)).eval(), inputs


class _Tensors(nn.Module):
    """Returns only the tensors of what a model returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self.model(*inputs)
        return tuple(value for value in result.to_tuple() if isinstance(value, torch.Tensor))


NAMES: dict[str, Callable[[], list[str]]] = {"timm": timm_names, "transformers": lambda: list(TRANSFORMERS)}
BUILD: dict[str, Callable[[str], tuple[nn.Module, Sample]]] = {"timm": build_timm, "transformers": build_transformer}

if __name__ == "__main__":
    main()
