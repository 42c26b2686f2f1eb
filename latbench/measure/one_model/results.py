"""What became of several models, on several backends and under several settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.measure.one_model import table
from latbench.measure.one_model.record import ModelRecord, Refusal, records_document, write_records

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Results:
    """Records and refusals, in the order in which they were asked for.

    Args:
        results: at least one.
        notes: what the user should know about how the models were opened and measured.
    """

    results: tuple[ModelRecord | Refusal, ...]
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> list[ModelRecord]:
        """What was measured."""
        return [each for each in self.results if isinstance(each, ModelRecord)]

    @property
    def refusals(self) -> list[Refusal]:
        """What was not."""
        return [each for each in self.results if isinstance(each, Refusal)]

    def to_json(self) -> dict[str, Any]:
        """Return the values of a records file; see `latbench.measure.one_model.record.records_document`."""
        return records_document(self.results, self.notes)

    def write(self, path: str | Path) -> None:
        """Write a records file, which ``compare-runs`` and ``diff`` read.

        Raises:
            StoreError: the file cannot be written.
        """
        write_records(path, self.results, self.notes)

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas table of a row for each result, its columns those of ``--format csv``.

        Raises:
            UsageError: pandas is not installed.
        """
        return table.frame(self.results)

    def to_csv(self) -> str:
        """Return the same table as CSV."""
        return table.csv_text(self.results)

    def to_markdown(self) -> str:
        """Return a table for people in Markdown, with what must be known of its numbers."""
        return table.markdown(self.results)

    def _repr_html_(self) -> str:
        return table.html(self.results)
