"""The options of the backend."""

from __future__ import annotations

from dataclasses import dataclass

from latbench.backend import CompileOptions, check_options
from latbench.errors import UsageError
from latbench_tensorrt.library import INSTALLED, MODULES

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
_LEVELS = ("0", "1", "2", "3", "4", "5")
_OPTIONS = {
    "runtime": tuple(MODULES),
    "launch": ("graph", "enqueue"),
    "time": ("gpu", "e2e"),
    "transfers": ("no", "yes", "only"),
    "workspace_mib": (),
    "optimization_level": _LEVELS,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How an engine is built and run.

    Args:
        precision: ``fp32`` (without TF32), ``tf32``, ``fp16``, ``bf16``, or ``int8`` for a file with Q/DQ nodes.
        runtime: ``tensorrt`` or ``rtx``; the first of them that is installed.
        launch: ``graph`` replays a CUDA graph, so that the CPU does not limit networks of many small kernels;
            ``enqueue`` launches every kernel in every run.
        time: ``gpu`` is the GPU's time between CUDA events before and after a launch, which includes getting the first
            kernel to the idle GPU; ``e2e`` is the host's, around a call that waits for the outputs.
        transfers: whether a run copies inputs to the GPU and outputs back, from and to pinned memory: ``no``, ``yes``,
            or ``only`` those copies.
        workspace_mib: the most memory that a layer may use while it computes; None leaves it to the library.
        optimization_level: 0 builds fastest, 5 searches longest.
    """

    precision: str
    runtime: str
    launch: str
    time: str
    transfers: str
    workspace_mib: int | None
    optimization_level: int

    @property
    def of_build(self) -> tuple[str, int | None, int]:
        """What an engine depends on."""
        return self.precision, self.workspace_mib, self.optimization_level

    @classmethod
    def parse(cls, options: CompileOptions) -> Settings:
        """Read the options.

        Raises:
            UsageError: an unknown option, value or precision.
        """
        given = options.options
        check_options("tensorrt", given, _OPTIONS)
        if options.precision not in PRECISIONS:
            raise UsageError(f"backend 'tensorrt' builds {', '.join(PRECISIONS)}, not {options.precision}")
        return cls(
            precision=options.precision,
            runtime=given.get("runtime", INSTALLED[0]),
            launch=given.get("launch", "graph"),
            time=given.get("time", "gpu"),
            transfers=given.get("transfers", "no"),
            workspace_mib=_mib(given["workspace_mib"]) if "workspace_mib" in given else None,
            optimization_level=int(given.get("optimization_level", "3")),
        )


def _mib(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"option workspace_mib={text} of backend 'tensorrt': give a whole number of MiB, 1 or more")
    return int(text)
