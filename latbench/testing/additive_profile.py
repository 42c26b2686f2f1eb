"""A profile of known cost, without a device: what every architecture takes is a sum over its columns."""

from __future__ import annotations

import numpy as np

from latbench.backend import Device
from latbench.records.measurement import Conditions, Measurement, SubjectKind
from latbench.records.profile import Profile
from latbench.space import HasOperations, SpaceSpec


def additive_profile(
    n: int, *, seed: int = 0, noise: float = 0.0, duplicates: int = 0, with_operations: bool = True
) -> Profile:
    """Return measurements of random NAS-Bench-201 architectures on a device that adds up what its operations take.

    A column takes 2.5 times what the operator table says of its operations, give or take 10% that are its own, and
    every architecture 1 ms besides.

    Args:
        n: architectures.
        seed: draws the architectures and the noise; the device is always the same.
        noise: relative standard deviation of one measured value.
        duplicates: how many of the architectures are measured again.
        with_operations: whether the profile holds the operator table.
    """
    space = SpaceSpec("nasbench201", {}).create()
    device, rng = np.random.default_rng(0), np.random.default_rng(seed)
    assert isinstance(space, HasOperations)
    terms = {term.columns: term.operations for term in space.terms()}
    operations = sorted({key for operations in terms.values() for key in operations})
    table = dict(zip(operations, device.uniform(0.005, 0.05, len(operations)), strict=True))
    costs = np.array(
        [sum(table[key] * n for key, n in terms.get((column.name,), {}).items()) for column in space.columns]
    )
    architectures = space.sample(n, seed=seed)
    values = 1.0 + space.encode(architectures) @ (2.5 * costs * device.uniform(0.9, 1.1, len(costs)))

    def measured(subject: object, kind: SubjectKind, value: float, replicate: int = 0) -> Measurement:
        value = float(value * np.exp(noise * rng.standard_normal()))
        return Measurement(str(subject), kind, value, value, value, replicate=replicate)

    first = [measured(subject, "architecture", value) for subject, value in zip(architectures, values, strict=True)]
    again = [measured(architectures[i], "architecture", values[i], replicate=1) for i in range(duplicates)]
    rows = [measured(key, "operation", value) for key, value in table.items() if with_operations]
    conditions = Conditions("latency", "ms", "wall", "warm", "null", Device("adding machine", "cpu"), "fp32", 1, 1)
    return Profile(space, conditions, (*first, *again, *rows))
