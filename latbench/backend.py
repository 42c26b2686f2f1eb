"""The contract of a backend: a runtime on a device that compiles a model and runs it once, timed.

A backend is one class. It compiles and times ONE run; warm-up, rounds, references, stopping and statistics
belong to the core (`latbench.measure`), so that every backend is measured in the same way::

    class SleepBackend:
        name = "sleep"

        def device(self) -> Device:
            return Device(name="this machine", kind="cpu")

        def compile(self, model: Model, options: CompileOptions) -> Compiled:
            return CompiledSleep(model)

The constructor takes no arguments and raises `PluginError` where the library or the device is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from latbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from latbench.model import Model

Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Device:
    """What is measured on: every fact that a latency depends on and that does not change while measuring.

    Args:
        name: the marketing name of the chip, as the driver or the kernel gives it.
        kind: ``"cpu"``, ``"cuda"``, ...
        facts: everything else that must be equal for two latencies to be comparable: library versions, driver,
            instruction set, power limit. What moves while measuring (clocks, temperature) is `HasState`'s.
        unit: tells one of several equal devices from the others: a serial number, a UUID. Recorded, never compared.
    """

    name: str
    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    unit: str = ""

    def differences(self, other: Device) -> list[str]:
        """Return the names of what differs, so that latencies are not comparable: ``["name", "driver"]``."""
        mine, theirs = ({"name": d.name, "kind": d.kind, **d.facts} for d in (self, other))
        return [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How a model is compiled.

    Args:
        precision: ``"fp16"``, ``"bf16"``, ...; a backend that cannot build it raises `UsageError`. ``"fp32"``, the
            default, casts nothing: a model that was given in half precision stays so, and the record says it.
        threads: how many threads one inference may use.
        options: the backend's own options, as given by ``--option key=value``. An unknown key is a `UsageError`
            (`check_options` raises it).
    """

    precision: str = "fp32"
    threads: int = 1
    options: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Compiled(Protocol):
    """A compiled model that holds its sample inputs. A context manager: leaving it frees the model."""

    clock: str
    """What `run` is timed with: ``"thread_cpu"``, ``"wall"``, ``"cuda_events"``, ..."""

    def run(self) -> float:
        """Run one inference to completion and return its seconds on the device's own clock."""
        ...

    def outputs(self) -> list[NDArray[Any]]:
        """Return the outputs for the sample inputs, in the model's order."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """A runtime on a device. See the module's docstring."""

    name: ClassVar[str]
    """Equals the entry-point name."""

    def device(self) -> Device:
        """Return the device that this backend measures."""
        ...

    def compile(self, model: Model, options: CompileOptions) -> Compiled:
        """Compile `model`.

        Raises:
            UsageError: the options ask for what this backend does not have.
            CompileError: the runtime refused the model.
            OutOfMemoryError: the device's memory cannot hold it, alone or beside those compiled before; a profile then
                tries it alone. The first runs may raise it too.
        """
        ...


@runtime_checkable
class HasUnits(Protocol):
    """A backend that may find several equal devices; one process measures one of them."""

    def units(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        """Return for each device its `Device.unit`, and the environment variables that choose it.

        Where these variables are set before the backend is built, `units` returns that device alone.
        """
        ...


@runtime_checkable
class HasDevices(Protocol):
    """A backend whose options choose the device: a runtime with providers for the CPU, GPUs and NPUs."""

    def device_for(self, options: CompileOptions) -> Device:
        """Return the device that the options choose; `Backend.device` returns the one without any.

        Raises:
            UsageError: the options name a device that the backend does not have.
            PluginError: the device is not there.
        """
        ...


@runtime_checkable
class HasState(Protocol):
    """A backend whose device has a state that moves while measuring: clocks, temperature, throttling."""

    def state(self) -> Mapping[str, Fact]:
        """Return the state now. Called between batches, never while timing."""
        ...


@runtime_checkable
class HasCache(Protocol):
    """A compiled model whose device has a cache that can be emptied between runs: the L2 of a GPU."""

    def flush_cache(self) -> None:
        """Evict from the device's cache what earlier runs left there. Called before each run of a cold measurement."""
        ...


@runtime_checkable
class HasFlags(Protocol):
    """A compiled model that knows what a reader of its latency should know: ``"launch-bound"``, ..."""

    def flags(self) -> Sequence[str]:
        """Return the flags that the runs so far call for. Called once, after timing."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """The time that one operator takes in an inference.

    Args:
        type: its type in the runtime: ``"Conv"``, ``"conv2d"``.
        name: which one of them: the node of the graph, or the shapes of its inputs.
        ms: its milliseconds in one inference, all calls together.
        shapes: of its inputs, ``"1x16x32x32, 16x16x3x3"``, weights among them; empty where the runtime does not tell.
        nodes: which operators of the model's file it computes: several where the runtime has fused them; empty where it
            does not tell, and then `name` stands for it.
    """

    type: str
    name: str
    ms: float
    shapes: str = ""
    nodes: tuple[str, ...] = ()


def profiled_runs(seconds: float) -> int:
    """Return how many runs of a model that takes so many seconds to profile: enough for a median, in a few seconds."""
    return max(3, min(100, int(2 / max(seconds, 1e-6))))


def median_per_run(times: Sequence[float], runs: int) -> float:
    """Return the median over some runs of the time that an operator takes in one.

    What else the machine does falls into few runs, and would move their mean.

    Args:
        times: of its calls, in order; several in each run where it stands in a loop.
        runs: how many there were; where not each had as many calls, their mean is returned.
    """
    calls, rest = divmod(len(times), runs)
    if rest:
        return sum(times) / runs
    return median(sum(times[run * calls : (run + 1) * calls]) for run in range(runs))


@runtime_checkable
class HasPrecision(Protocol):
    """A compiled model whose runtime tells what it computes in; else it is what was asked for, or the model's own."""

    def precision(self) -> str:
        """Return it: ``"fp32"``, ``"bf16"``, ``"fp16+fp32"``, ..., as read from what runs."""
        ...


@runtime_checkable
class HasMemory(Protocol):
    """A compiled model whose runtime can tell how much memory it takes."""

    def memory_mib(self) -> float:
        """Return the most MiB that the model holds during an inference, as measured: weights, inputs, activations."""
        ...


@runtime_checkable
class HasOperatorTimes(Protocol):
    """A compiled model whose runtime can tell how long each operator takes."""

    def operator_times(self) -> Sequence[OperatorTime]:
        """Profile some inferences and return the mean time of each operator, in the order of execution.

        Profiling slows a runtime down: the shares mean more than the sum.
        """
        ...


def device_of(backend: Backend, options: CompileOptions) -> Device:
    """Return what a backend measures with these options; see `HasDevices`."""
    return backend.device_for(options) if isinstance(backend, HasDevices) else backend.device()


def check_options(backend: str, options: Mapping[str, str], known: Mapping[str, Collection[str]]) -> None:
    """Refuse options that a backend does not have.

    Args:
        backend: its name, for the message.
        options: what was asked for.
        known: the values that each option may take; none where any text will do.

    Raises:
        UsageError: an unknown option, or a value that an option cannot take.
    """
    for key, value in options.items():
        if key not in known:
            raise UsageError(f"backend {backend!r} has no option {key!r}: {did_you_mean(key, known)}")
        if known[key] and value not in known[key]:
            raise UsageError(f"option {key}={value} of backend {backend!r}: choose one of {', '.join(known[key])}")
