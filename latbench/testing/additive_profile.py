"""A profile of known cost, without a device: the value of every architecture is a sum over its columns."""

from __future__ import annotations

import numpy as np

from latbench.backend import Device
from latbench.prediction.few_samples.expansion import Expansion
from latbench.records.measurement import Conditions, Measurement, SubjectKind
from latbench.records.profile import Profile, terms_of
from latbench.space import SearchSpace, SpaceSpec


def additive_profile(
    n: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    duplicates: int = 0,
    with_operations: bool = True,
    device: int = 0,
    space: SearchSpace | None = None,
) -> Profile:
    """Return measurements of random architectures on a device that adds up the costs of operations.

    A column, or a product of columns that runs operations, takes 2.5 times the operator table's cost of its
    operations, plus or minus 10% of its own, and every architecture takes 1 ms in addition.

    Args:
        n: architectures.
        seed: draws the architectures and the noise.
        noise: relative standard deviation of one measured value.
        duplicates: how many of the architectures are measured again.
        with_operations: whether the profile holds the operator table.
        device: seed of the operations' costs.
        space: a space with operations; None is NAS-Bench-201.
    """
    space = SpaceSpec("nasbench201", {}).create() if space is None else space
    machine, rng = np.random.default_rng(device), np.random.default_rng(seed)
    conditions = Conditions("latency", "ms", "wall", "warm", "null", Device("adding machine", "cpu"), "fp32", 1, 1)
    operations = sorted({key for term in terms_of(space) for key in term.operations})
    table = dict(zip(operations, machine.uniform(0.005, 0.05, len(operations)), strict=True))
    rows = tuple(Measurement(key, "operation", value, value, value) for key, value in table.items())
    expand = Expansion.of(Profile(space, conditions, rows).context(), len(space.columns))
    if expand.costs is None:
        raise ValueError(f"{SpaceSpec.of(space)} has no operations to add up: give a space with operations")
    architectures = space.sample(n, seed=seed)
    own = machine.uniform(0.9, 1.1, expand.expanded_width)
    values = 1.0 + expand(space.encode(architectures)) @ (2.5 * expand.costs * own)

    def measured(subject: object, kind: SubjectKind, value: float, replicate: int = 0) -> Measurement:
        value = float(value * np.exp(noise * rng.standard_normal()))
        return Measurement(str(subject), kind, value, value, value, replicate=replicate)

    first = [measured(subject, "architecture", value) for subject, value in zip(architectures, values, strict=True)]
    again = [measured(architectures[i], "architecture", values[i], replicate=1) for i in range(duplicates)]
    noisy = [measured(key, "operation", value) for key, value in table.items() if with_operations]
    return Profile(space, conditions, (*first, *again, *noisy))
