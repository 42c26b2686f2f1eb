"""The ``null`` backend: it runs nothing and takes a known time, so that a measuring protocol can be held against it.

Not registered; named as ``latbench.testing:NullBackend``. Time passes on a clock of its own, without waiting. What
disturbs a real machine is scripted by options, all drawn from one seed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, check_options
from latbench.errors import CompileError, UsageError
from latbench.model import Model

OPTIONS = {
    "seed": (),
    "noise": (),  # relative: every run is longer by half-normal noise of this scale
    "drift": (),  # relative: all models slow down and speed up together by so much, within some 500 ms
    "session": (),  # relative: a model's time in one process differs from that in another by so much
    "preempted": (),  # share of runs that another process interrupts for 1 to 10 ms
    "fail": ("compile", "crash", "hang", "outputs"),  # what happens to the models that `failing` names
    "failing": (),  # a text that the names of failing models hold; all fail where it is empty
}
MS_PER_OPERATOR: Mapping[str, float] = {"Conv": 0.05, "MaxPool": 0.02, "AveragePool": 0.02, "Gemm": 0.01}
_MS_OF_ANY_OTHER = 0.005
_DRIFT_PERIOD_MS = 500.0


def operator_cost_ms(model: Model) -> float:
    """Return the default cost: a fixed time for each operator of the model's ONNX file, so that costs add up."""
    import onnx

    counts = Counter(node.op_type for node in onnx.load_model_from_string(model.onnx).graph.node)
    return sum(count * MS_PER_OPERATOR.get(kind, _MS_OF_ANY_OTHER) for kind, count in counts.items())


class NullBackend:
    """A backend of known cost.

    Args:
        cost_ms: gives the true milliseconds of a model.
    """

    name: ClassVar[str] = "null"

    def __init__(self, cost_ms: Callable[[Model], float] = operator_cost_ms) -> None:
        self._cost_ms = cost_ms
        self.now_ms = 0.0

    def device(self) -> Device:
        """Return a device without facts."""
        return Device("null", "null")

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        """Look up the cost of the model.

        Raises:
            UsageError: an unknown option.
            CompileError: the options script one.
        """
        script = options.options
        check_options(self.name, script, OPTIONS)
        if options.precision != "fp32":
            raise UsageError(f"backend 'null' pretends to run fp32, not {options.precision}: leave --precision out")
        fails = script.get("fail") if script.get("failing", "") in model.name else None
        if fails == "compile":
            raise CompileError(f"null refuses {model.name}, as scripted")
        if fails == "crash":
            os.abort()
        if fails == "hang":
            time.sleep(3600)
        rng = np.random.default_rng([int(script.get("seed", 0)), os.getpid(), len(model.name)])
        bias = float(np.exp(float(script.get("session", 0)) * rng.standard_normal()))
        return CompiledNull(self, model, self._cost_ms(model) * bias, script, rng, wrong=fails == "outputs")


class CompiledNull:
    """A model whose time is known."""

    clock = "null"

    def __init__(
        self,
        backend: NullBackend,
        model: Model,
        cost_ms: float,
        script: Mapping[str, str],
        rng: np.random.Generator,
        *,
        wrong: bool,
    ) -> None:
        self._backend, self._model, self._cost_ms, self._rng, self._wrong = backend, model, cost_ms, rng, wrong
        self._noise, self._drift, self._preempted = (float(script.get(key, 0)) for key in ("noise", "drift", "preempted"))

    def run(self) -> float:
        """Let the scripted time pass on the backend's clock and return its seconds."""
        wave = np.sin(2 * np.pi * self._backend.now_ms / _DRIFT_PERIOD_MS)
        ms = self._cost_ms * float(np.exp(self._noise * abs(self._rng.standard_normal()) + self._drift * wave))
        if self._rng.random() < self._preempted:
            ms += self._rng.uniform(1, 10)
        self._backend.now_ms += ms
        return ms * 1e-3

    def outputs(self) -> list[NDArray[Any]]:
        """Return the module's own outputs, or wrong ones where that is scripted."""
        return [output + self._wrong for output in self._model.reference_outputs()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free nothing."""
