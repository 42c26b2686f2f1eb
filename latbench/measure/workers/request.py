"""What a session is asked to measure, as plain values: it travels to a worker process as JSON."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from latbench import plugins
from latbench.backend import CompileOptions
from latbench.executor import Notify
from latbench.measure import quantities
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.quantity import Quantity
from latbench.measure.session import SessionResult, run_session
from latbench.measure.settings import Settings
from latbench.measure.workloads import Workload
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
        quantity: what to measure of them.
    """

    session: str
    backend: str
    options: CompileOptions
    settings: Settings
    space: SpaceSpec
    batch: int
    seed: int
    subjects: tuple[Subject, ...]
    quantity: Quantity = LATENCY

    @property
    def threads(self) -> int:
        """The threads of one inference."""
        return self.options.threads

    @property
    def max_seconds(self) -> float:
        """The longest that measuring may take once everything has compiled."""
        return self.quantity.max_seconds(self.settings, len(self.subjects))

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps({**dataclasses.asdict(self), "quantity": quantities.to_json(self.quantity)})

    @classmethod
    def from_json(cls, text: str) -> SessionRequest:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "options": CompileOptions(**values["options"]),
                "settings": Settings(**values["settings"]),
                "space": SpaceSpec(**values["space"]),
                "subjects": tuple(Subject(**subject) for subject in values["subjects"]),
                "quantity": quantities.from_json(values["quantity"]),
            }
        )

    def read_result(self, values: Mapping[str, Any]) -> SessionResult:
        """Read what `SessionResult.to_json` wrote."""
        return SessionResult.from_json(values)

    def run(self, notify: Notify) -> SessionResult:
        """Run the session in this process; see `run_session`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            result = self._run(notify)
        notes = tuple(dict.fromkeys(str(warning.message) for warning in caught))
        if result.conditions is None:
            return dataclasses.replace(result, notes=notes)
        # The records say what loads the backend again, which for a class that is not installed is not its name.
        conditions = dataclasses.replace(result.conditions, backend=self.backend)
        return dataclasses.replace(result, conditions=conditions, notes=notes)

    def _run(self, notify: Notify) -> SessionResult:
        return run_session(
            plugins.configure(plugins.BACKENDS, self.backend, {}),
            workloads(self.subjects, self.space.create(), self.batch),
            self.quantity,
            self.options,
            self.settings,
            seed=self.seed,
            session=self.session,
            notify=notify,
        )


def workloads(subjects: Sequence[Subject], space: SearchSpace[Any], batch: int) -> list[Workload]:
    """Return the workloads of some subjects of a space; each builds its model when asked."""

    def workload(subject: Subject) -> Workload:
        model = partial(subject_model, space, subject, batch=batch)
        return Workload(subject.kind, subject.text, model, subject.replicate)

    return [workload(subject) for subject in subjects]
