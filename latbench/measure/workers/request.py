"""What a session is asked to measure, as plain values: it travels to a worker process as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from latbench import plugins
from latbench.backend import CompileOptions
from latbench.measure.energy.session import run_energy_session
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.rounds import Task
from latbench.measure.session import Notify, SessionResult, run_session
from latbench.measure.settings import Settings
from latbench.records.subjects import Subject, subject_model
from latbench.space import SearchSpace, SpaceSpec


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """One session.

    Args:
        session: its name in the records.
        backend: plug-in name or ``module:Class``.
        options: how models are compiled.
        settings: how they are measured.
        space: what the subjects belong to.
        batch: inputs of one inference.
        seed: draws the visiting order.
        subjects: what to measure, references among them.
        energy: how their energy is measured; None measures latency.
    """

    session: str
    backend: str
    options: CompileOptions
    settings: Settings
    space: SpaceSpec
    batch: int
    seed: int
    subjects: tuple[Subject, ...]
    energy: EnergySettings | None = None

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SessionRequest:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        energy = values["energy"]
        return cls(
            **{
                **values,
                "options": CompileOptions(**values["options"]),
                "settings": Settings(**values["settings"]),
                "space": SpaceSpec(**values["space"]),
                "subjects": tuple(Subject(**subject) for subject in values["subjects"]),
                "energy": None if energy is None else EnergySettings(**energy),
            }
        )

    def read_result(self, values: Mapping[str, Any]) -> SessionResult:
        """Read what `SessionResult.to_json` wrote."""
        return SessionResult.from_json(values)

    def run(self, notify: Notify) -> SessionResult:
        """Run the session in this process; see `run_session` and `run_energy_session`."""
        backend = plugins.configure(plugins.BACKENDS, self.backend, {})
        tasks = _tasks(self.subjects, self.space.create(), self.batch)
        run = run_session if self.energy is None else partial(run_energy_session, energy=self.energy)
        result = run(backend, tasks, self.options, self.settings, seed=self.seed, session=self.session, notify=notify)
        if result.conditions is None:
            return result
        # The records say what loads the backend again, which for a class that is not installed is not its name.
        return dataclasses.replace(result, conditions=dataclasses.replace(result.conditions, backend=self.backend))


def _tasks(subjects: Sequence[Subject], space: SearchSpace, batch: int) -> list[Task]:
    def task(subject: Subject) -> Task:
        model = partial(subject_model, space, subject, batch=batch)
        return Task(subject.kind, subject.text, model, subject.replicate)

    return [task(subject) for subject in subjects]
