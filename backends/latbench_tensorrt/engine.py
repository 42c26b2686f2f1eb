"""A built engine, its layers, and the precision that they compute in, as the engine inspector reports it.

An inspector needs a deserialised engine, which needs a GPU. Without one, the builder's log holds the inspector's list,
one line a layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TYPES = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
}
_TYPE = re.compile(rf"\b({'|'.join(_TYPES)})\b", re.IGNORECASE)
_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<outputs>.*?)\](?:, (?:TacticName: (?P<tactic>[^,\n]*)|StreamId|Metadata)(?P<rest>.*))?$",
    re.MULTILINE,
)
_TYPE_KEYS = ("format/datatype", "datatype")
"""What the inspector calls the type of a tensor, up to version 10 and from 11 on, in lower case."""
_DATATYPE = re.compile(r"Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")

_MULTIPLYING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN"})
"""The operators that must compute in the precision asked for. Others may be wider: libraries pool bf16 as fp32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an engine: usually one kernel.

    Args:
        name: the library's.
        type: the library's: ``"CaskConvolution"``, ``"kgen"``.
        nodes: names of the ONNX nodes that it computes.
        precisions: of its floating-point and int8 inputs and outputs.
        tactic: the name of the kernel, where it is chosen while building.
    """

    name: str
    type: str
    nodes: tuple[str, ...]
    precisions: tuple[str, ...]
    tactic: str = ""

    def operators(self, operators: Mapping[str, str]) -> tuple[str, ...]:
        """Return what it computes, by the ONNX operators of the nodes: ``("Conv", "Relu")``."""
        return tuple(dict.fromkeys(operators[node] for node in self.nodes if node in operators))


@dataclass(frozen=True, slots=True)
class Engine:
    """A serialised engine.

    Args:
        data: what the runtime deserialises.
        layers: as the builder logs them; empty where it does not: then the inspector lists them on the GPU.
        precision: what it was built for.
        build_ms: time to cast, parse and build.
        cached: whether it comes from the engine cache; `build_ms` is then that of the first build.
    """

    data: bytes
    layers: tuple[Layer, ...]
    precision: str
    build_ms: float
    cached: bool = False


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A deserialised engine.

    Args:
        native: the library's object.
        engine: what it was deserialised from.
        layers: as the inspector lists them.
        operators: ONNX operators by the name of their node.
    """

    native: Any
    engine: Engine
    layers: tuple[Layer, ...]
    operators: Mapping[str, str]

    def kind(self, layer_name: str) -> str:
        """Return what a layer computes: ``"Conv+Relu"``, or the library's word where no ONNX node is known."""
        layer = self._layer(layer_name)
        if layer is None:
            return "other"
        return "+".join(layer.operators(self.operators)) or layer.type

    def nodes(self, layer_name: str) -> tuple[str, ...]:
        """Return the ONNX nodes that a layer computes, where they are known."""
        layer = self._layer(layer_name)
        return () if layer is None else layer.nodes

    def _layer(self, name: str) -> Layer | None:
        return next((layer for layer in self.layers if layer.name == name), None)


def logged_layers(log: str) -> tuple[Layer, ...]:
    """Read the layers that the builder logs."""
    return tuple(
        Layer(
            match["name"],
            match["type"],
            tuple(_NODE.findall(match["rest"] or "")),
            _precisions(_DATATYPE.findall(match["inputs"] + match["outputs"])),
            match["tactic"] or "",
        )
        for match in _LINE.finditer(log)
    )


def inspected_layers(information: str) -> tuple[Layer, ...]:
    """Read the inspector's JSON."""
    # Without detailed profiling verbosity, the inspector gives only the name of a layer.
    return tuple(_layer(entry) for entry in json.loads(information)["Layers"] if isinstance(entry, dict))


def _layer(entry: Mapping[str, Any]) -> Layer:
    tensors = [*entry.get("Inputs", ()), *entry.get("Outputs", ())]
    texts = (str(value) for t in tensors for key, value in t.items() if key.lower() in _TYPE_KEYS)
    return Layer(
        entry["Name"],
        entry.get("LayerType", ""),
        tuple(_NODE.findall(entry.get("Metadata", ""))),
        _precisions(texts),
        entry.get("TacticName", ""),
    )


def _precisions(texts: Iterable[str]) -> tuple[str, ...]:
    found = (_TYPES[word.lower()] for text in texts for word in _TYPE.findall(text))
    return tuple(dict.fromkeys(found))


def other_precision(layers: Sequence[Layer], operators: Mapping[str, str], precision: str) -> list[Layer]:
    """Return the layers that keep an engine from being of the precision asked for.

    Nothing may be narrower than it, and for fp32 no kernel may use TF32. For fp16 and bf16 each layer that multiplies
    reads or writes that type. int8 needs at least one layer that does: the quantised file decides which.

    Args:
        layers: of the engine.
        operators: ONNX operators by the name of their node.
        precision: what was asked for.
    """
    multiplying = [layer for layer in layers if layer.precisions and _MULTIPLYING & {*layer.operators(operators)}]
    if precision == "int8":
        return [] if any("int8" in layer.precisions for layer in multiplying) else multiplying
    if precision in ("fp32", "tf32"):
        return [
            layer
            for layer in layers
            if set(layer.precisions) - {"fp32"} or (precision == "fp32" and "tf32" in layer.tactic.lower())
        ]
    narrower = [layer for layer in layers if set(layer.precisions) - {"fp32", precision}]
    return narrower or [layer for layer in multiplying if precision not in layer.precisions]


def is_mixed(layers: Sequence[Layer], precision: str) -> bool:
    """Tell whether some layers of an fp16 or bf16 engine compute in fp32 alone."""
    return precision in ("fp16", "bf16") and any(layer.precisions == ("fp32",) for layer in layers)
