"""The texts that repositories write for a DARTS genotype, read as values: none of them is ever executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from latbench.errors import ParseError
from latbench.spaces.darts.genotype import NODES, Genotype, Pair, checked_cell

_FORM = (
    "Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
)

_KEYWORDS = ("normal", "normal_concat", "reduce", "reduce_concat")

_ALL_NODES = {"range(2, 6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)"}

_NASLIB = {"normal_concat": "[2, 3, 4, 5, 6]", "reduce_concat": "[4, 5, 6]"}
"""What NASLib writes for every cell; its cells have four nodes and concatenate all of them."""

_NNI_NAMES = {
    "maxpool": "max_pool_3x3",
    "avgpool": "avg_pool_3x3",
    "skipconnect": "skip_connect",
    "sepconv3x3": "sep_conv_3x3",
    "sepconv5x5": "sep_conv_5x5",
    "dilconv3x3": "dil_conv_3x3",
    "dilconv5x5": "dil_conv_5x5",
}
"""The operations of NNI's DARTS before its hub of spaces."""


def parse_genotype(text: str) -> Genotype:
    """Parse what repositories write.

    - the paper's ``Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))``, also
      after ``NAME =``, with ``np.int64(1)``, and as NASLib has it;
    - khanrc/pt.darts: the same with a list for each node;
    - AutoDL-Projects: a dict with these keys, whose pairs may have a third entry, the weight of the edge;
    - NNI: a dict of ``normal/op_2_0`` and ``normal/input_2_0``, or of ``normal_n2_p0`` and ``normal_n2_switch``.

    Raises:
        ParseError: the message names the cell, the node and the column.
    """
    value = _value(text.strip())
    if isinstance(value, ast.Dict):
        keys = _entries(value)
        if not set(keys) >= {"normal", "reduce"}:
            return Genotype(**{cell: _nni_cell(cell, keys) for cell in ("normal", "reduce")})
    else:
        keys = _keywords(value)
    for name in ("normal_concat", "reduce_concat"):
        _check_concat(name, keys)
    return Genotype(**{cell: _cell(cell, keys[cell]) for cell in ("normal", "reduce")})


def _value(text: str) -> ast.expr:
    """Return the value of an expression, or of an assignment."""
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise ParseError(f"not a genotype{_position(error.lineno, error.offset)}: {error.msg}: write {_FORM}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; brackets nested too deep
        raise ParseError(f"not a genotype: {error}: write {_FORM}") from None
    match body:
        case [ast.Expr(value=value) | ast.Assign(value=value, targets=[ast.Name()])]:
            return value
    raise ParseError(f"not a genotype: {len(body)} statements: write {_FORM}")


def _keywords(call: ast.expr) -> dict[str, ast.expr]:
    if not (isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "Genotype"):
        raise ParseError(f"not a genotype{_where(call)}: write {_FORM}")
    given = [keyword.arg for keyword in call.keywords]
    if call.args or sorted(map(str, given)) != list(_KEYWORDS):
        raise ParseError(f"a genotype does not have the keywords {given}: write {_FORM}")
    return {str(keyword.arg): keyword.value for keyword in call.keywords}


def _entries(value: ast.Dict) -> dict[str, ast.expr]:
    entries: dict[str, ast.expr] = {}
    for key, each in zip(value.keys, value.values, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            raise ParseError(f"not a genotype{_where(key or each)}: its keys are names: write {_FORM}")
        if key.value in entries:
            raise ParseError(f"not a genotype{_where(key)}: {key.value!r} is there twice: write it once")
        entries[key.value] = each
    return entries


def _check_concat(name: str, keys: Mapping[str, ast.expr]) -> None:
    if name not in keys:
        raise ParseError(f"the genotype has no {name!r}: write {_FORM}")
    written = ast.unparse(keys[name])
    as_naslib = all(ast.unparse(keys[each]) == concat for each, concat in _NASLIB.items() if each in keys)
    if written not in _ALL_NODES and not as_naslib:
        raise ParseError(
            f"{name}{_where(keys[name])} is {written}: cells of this space concatenate all nodes, write range(2, 6)"
        )


def _cell(cell: str, node: ast.expr) -> tuple[Pair, ...]:
    """Return the pairs of a cell, in one list or in one for each node."""
    if not isinstance(node, ast.List | ast.Tuple):
        raise ParseError(f"{cell} cell{_where(node)}: expected a list of 8 pairs ('operation', source)")
    pairs: list[ast.expr] = []
    for each in node.elts:
        nested = each.elts if isinstance(each, ast.List | ast.Tuple) else []
        if nested and all(isinstance(pair, ast.List | ast.Tuple) for pair in nested):
            if len(nested) != 2:
                raise ParseError(f"{cell} cell{_where(each)}: a node with {len(nested)} edges: give 2 to each")
            pairs += nested
        else:
            pairs.append(each)
    return checked_cell(cell, [_pair(cell, pair) for pair in pairs], [_where(pair) for pair in pairs])


def _pair(cell: str, node: ast.expr) -> Pair:
    match node:
        case ast.Tuple(elts=[ast.Constant(value=str(kind)), source, *weight]) if len(weight) <= 1:
            if (number := _integer(source)) is not None:
                return kind, number
        case ast.List(elts=[ast.Constant(value=str(kind)), source]):
            if (number := _integer(source)) is not None:
                return kind, number
    raise ParseError(f"{cell} cell{_where(node)}: {ast.unparse(node)} is not a pair: write ('sep_conv_3x3', 1)")


def _integer(node: ast.expr) -> int | None:
    """Return an integer, also ``np.int64(1)``; None for anything else."""
    match node:
        case ast.Call(func=function, args=[inner], keywords=[]) if re.fullmatch(
            r"(?:\w+\.)?u?int(?:8|16|32|64)?", ast.unparse(function)
        ):
            return _integer(inner)
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int(number)):
            return number
    return None


def _nni_cell(cell: str, keys: Mapping[str, ast.expr]) -> tuple[Pair, ...]:
    """Return the pairs of a cell in one of NNI's two forms."""
    hub = f"{cell}/op_2_0" in keys
    pairs: list[Pair] = []
    where: list[str] = []
    for node in NODES:
        if hub:
            inputs = [_entry(keys, f"{cell}/input_{node}_{at}") for at in (0, 1)]
            sources = [_source(cell, node, each, _only(each)) for each in inputs]
            chosen = [f"{cell}/op_{node}_{at}" for at in (0, 1)]
        else:
            sources = _switched(cell, node, keys)
            chosen = [f"{cell}_n{node}_p{source}" for source in sources]
        for key, source in zip(chosen, sources, strict=True):
            kind = _entry(keys, key)
            if not (isinstance(kind, ast.Constant) and isinstance(kind.value, str)):
                raise ParseError(
                    f"{cell} cell, node {node}{_where(kind)}: {key!r} is {ast.unparse(kind)}: write the name of an "
                    "operation; a number could mean any"
                )
            pairs.append((_NNI_NAMES.get(kind.value, kind.value), source))
            where.append(_where(kind))
    return checked_cell(cell, pairs, where)


def _switched(cell: str, node: int, keys: Mapping[str, ast.expr]) -> list[int]:
    """Return the sources that ``normal_n2_switch`` chooses, labels or numbers."""
    switch = _entry(keys, f"{cell}_n{node}_switch")
    if not (isinstance(switch, ast.List | ast.Tuple) and len(switch.elts) == 2):
        raise ParseError(f"{cell} cell, node {node}{_where(switch)}: {ast.unparse(switch)}: choose two inputs")
    sources = []
    for each in switch.elts:
        label = each.value if isinstance(each, ast.Constant) and isinstance(each.value, str) else ""
        named = re.fullmatch(rf"{cell}_n{node}_p(\d)", label)
        sources.append(_source(cell, node, each, int(named[1]) if named else _integer(each)))
    return sources


def _source(cell: str, node: int, given: ast.expr, source: int | None) -> int:
    if source is None:
        raise ParseError(
            f"{cell} cell, node {node}{_where(given)}: {ast.unparse(given)} is no input: write the number of a node"
        )
    return source


def _only(node: ast.expr) -> int | None:
    """Return an integer, also as the only one of a list."""
    match node:
        case ast.List(elts=[inner]):
            return _integer(inner)
    return _integer(node)


def _entry(keys: Mapping[str, ast.expr], key: str) -> ast.expr:
    if key not in keys:
        raise ParseError(f"not a genotype: a dict without {key!r}: write {_FORM}")
    return keys[key]


def _where(node: ast.expr) -> str:
    return _position(node.lineno, node.col_offset + 1)


def _position(line: int | None, column: int | None) -> str:
    return f" (column {column})" if line == 1 else f" (line {line}, column {column})"
