"""Whether a time is long enough for the work: a backend that does not wait for its device ends too early."""

from __future__ import annotations

from latbench.backend import Device
from latbench.measure.work import work_of
from latbench.measure.work.peak import peak_of
from latbench.model import Model

MARGIN = 4.0
"""How many times faster than the peak a run has to be before it is refused."""


def why_implausible(model: Model, ms: float, device: Device, *, precision: str, threads: int) -> str:
    """Return why a model cannot have run in so many milliseconds; nothing where it can, or where nobody knows.

    Args:
        model: what ran.
        ms: of one run.
        device: what it ran on.
        precision: of the compiled model.
        threads: that may have computed at once, on a CPU.
    """
    work = work_of(model)
    peak = peak_of(device, precision, threads) if work.least_flops else None
    if peak is None or work.least_flops is None:
        return ""
    least_ms = max(work.least_flops / peak.flops, (work.least_bytes or 0) / peak.bytes) * 1e3
    if ms * MARGIN >= least_ms:
        return ""
    return (
        f"not run: {ms:.2g} ms is too short for its {work.least_flops / 1e9:.2g} GFLOPs and "
        f"{(work.least_bytes or 0) / 2**20:.2g} MiB of weights, which take {least_ms:.2g} ms at this device's peak; "
        "have the backend wait for its device, and the model compute anew in each call"
    )
