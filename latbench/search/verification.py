"""The last step of a search: what it found is measured, beside the target and the prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from latbench.errors import UsageError
from latbench.records.measurement import Measurement
from latbench.space import Architecture

if TYPE_CHECKING:
    from latbench.space import SearchSpace


class EncodingPredictor(Protocol):
    """A predictor of architectures with a space and a unit, as `latbench.prediction.trained.TrainedPredictor` is."""

    @property
    def space(self) -> SearchSpace:
        """The space whose encodings it takes."""
        ...

    @property
    def unit(self) -> str:
        """The unit of what it predicts, ``"ms"``."""
        ...

    def predict(self, architectures: Sequence[Any]) -> NDArray[Any]:
        """Return predictions ``(n,)`` in `unit`."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """An architecture to verify.

    Args:
        name: what the report calls it, ``"with the latency loss"``.
        architecture: what a search derived.
        accuracy: its score after training: for a classification the accuracy, between 0 and 1. Files have called it
            so from the beginning.
        asked: the target of the search; None where none was set.
    """

    name: str
    architecture: Architecture
    accuracy: float
    asked: float | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """One row of the final report.

    Args:
        name: see `Found`.
        architecture: its string form.
        accuracy: see `Found`.
        asked: see `Found`.
        predicted: the prediction.
        measured: the measured value; None where there is none, like `low` and `high`.
        low: lower end of the measurement's 95% confidence interval.
        high: upper end.
        unit: of `asked`, `predicted`, `measured`, `low` and `high`.
    """

    name: str
    architecture: str
    accuracy: float
    asked: float | None
    predicted: float
    measured: float | None
    low: float | None
    high: float | None
    unit: str


def verify(
    found: Sequence[Found],
    predictor: EncodingPredictor,
    measure: Callable[[Sequence[Architecture]], Sequence[Measurement]] | None,
) -> list[Verification]:
    """Measure architectures and set the values beside their targets and predictions.

    Args:
        found: what searches derived; all are measured together, so that drift affects them alike.
        predictor: what steered the searches, or another one of the same space.
        measure: measures architectures in the predictor's unit, one measurement each, in any order; None measures
            nothing.

    Raises:
        UsageError: `measure` left an architecture out.
    """
    architectures = [row.architecture for row in found]
    measured = {m.subject: m for m in (measure(architectures) if measure else ()) if m.replicate == 0}
    rows = []
    for row, prediction in zip(found, predictor.predict(architectures), strict=True):
        subject = str(row.architecture)
        value = measured.get(subject)
        if measure and value is None:
            raise UsageError(f"{row.name!r} was not measured: 'measure' returns one measurement for {subject}")
        rows.append(
            Verification(
                row.name,
                subject,
                row.accuracy,
                row.asked,
                float(prediction),
                measured=None if value is None else value.value,
                low=None if value is None else value.low,
                high=None if value is None else value.high,
                unit=predictor.unit,
            )
        )
    return rows
