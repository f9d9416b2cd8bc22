"""The values of a field of the dataset's records, for the rows of a run.

The records are read one by one from the dataset folder that the plan names. If the folder is gone, the
rows of the run in `scratch/` stand in; they have fewer fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vsp.datasets import metadata
from vsp.errors import ConfigError, DatasetError, RunError
from vsp.evaluation.study_rows import Texts
from vsp.storage.results import Results, run_beside
from vsp.utils.spelling import unknown_name

Record = dict[str, Any]
_LISTED = 40  # fields in a message


@dataclass(slots=True)
class PickedRows:
    """What was picked from the record of each row, in the order of the rows; None: no record."""

    values: list[Any]
    source: str  # the folder or run that the records are of
    fields: set[str] = field(default_factory=set)  # of any record
    n_without_record: int = 0


def pick_rows(results: Results, ids: Texts, pick: Callable[[Record], Any]) -> PickedRows:
    """`pick` of the record of each id. Raises RunError if there are neither records nor a run."""
    place = {one: k for k, one in enumerate(ids.tolist())}
    records, source = _records(results)
    found = PickedRows([None] * len(place), source)
    n_found = 0
    for row_id, record in records:
        found.fields.update(record)
        k = place.get(row_id)
        if k is not None:
            found.values[k] = pick(record)
            n_found += 1
    found.n_without_record = len(place) - n_found
    return found


def _records(results: Results) -> tuple[Iterator[tuple[str, Record]], str]:
    """The id and the record of each row, and where they are from."""
    folder = Path(str(results.summary()["plan"]["dataset"]))
    if (folder / metadata.NAME).is_file():
        return (
            (metadata.id_of(record, index), record)
            for index, record in enumerate(metadata.records(folder))
        ), str(folder)
    run = run_beside(results.home)
    if run is None:
        raise RunError(
            f"{results.name}: its dataset {folder} and its run in scratch/ are both gone, so rows have "
            "no fields; put the dataset back"
        )
    samples = (asdict(one) for one in run.all_samples())
    return ((str(one["id"]), _with_values(one)) for one in samples), f"run {run.name}"


def _with_values(sample: Record) -> Record:
    """The fields of a row of a run that have a value."""
    return {key: list(one) if isinstance(one, tuple) else one for key, one in sample.items()
            if one not in ("", ())}  # fmt: skip


def field_values(results: Results, ids: Texts, name: str) -> PickedRows:
    """The field `name` of each row; None where a record lacks it.

    Raises ConfigError if no record has the field, or if its values are not texts, numbers or lists of
    these.
    """
    try:
        found = pick_rows(results, ids, lambda record: record.get(name))
    except DatasetError as error:
        raise RunError(f"{error}; --by reads the records of the run's dataset") from None
    if name not in found.fields:
        known = sorted(found.fields)[:_LISTED]
        raise ConfigError(f"--by {unknown_name('field', name, known)} (of {found.source})")
    bad = next((one for one in found.values if not _is_plain(one)), None)
    if bad is not None:
        raise ConfigError(
            f"--by {name}: has values such as {str(bad)[:60]!r}; choose a field of texts or numbers"
        )
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | int | float | bool) for one in value)
    return value is None or isinstance(value, str | int | float | bool)
