"""The values of a field of the dataset's records, for the rows of a run.

The records are read one by one from the dataset folder that the plan names. If the folder is gone, the
rows of the run in `scratch/` stand in; they have fewer fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vsp.datasets import metadata
from vsp.errors import ConfigError, DatasetError, RunError
from vsp.evaluation.study_rows import Texts
from vsp.storage.results import Results, run_beside
from vsp.storage.run import Run
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
        return _of_dataset(folder), str(folder)
    run = run_beside(results.home)
    if run is None:
        raise RunError(
            f"{results.name}: its dataset {folder} and its run in scratch/ are both gone, so rows have "
            "no fields; put the dataset back"
        )
    return _of_run(run), f"run {run.name}"


def _of_dataset(folder: Path) -> Iterator[tuple[str, Record]]:
    for index, record in enumerate(metadata.records(folder)):
        yield metadata.id_of(record, index), record


def _of_run(run: Run) -> Iterator[tuple[str, Record]]:
    for sample in run.all_samples():
        yield sample.id, _with_values(asdict(sample))


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
    _check_field("--by", name, found.fields, found.values, found.source)
    return found


def run_field(run: Run, ids: Texts, name: str, option: str) -> list[Any]:
    """The field `name` of each of the rows of a run; None where a record lacks it.

    Raises ConfigError, with the name of the option, as `field_values` does.
    """
    folder = Path(run.plan.dataset)
    has_records = (folder / metadata.NAME).is_file()
    records = _of_dataset(folder) if has_records else _of_run(run)
    place, fields = {one: k for k, one in enumerate(ids.tolist())}, set[str]()
    values: list[Any] = [None] * len(place)
    for row_id, record in records:
        fields.update(record)
        if row_id in place:
            values[place[row_id]] = record.get(name)
    source = str(folder) if has_records else f"run {run.name}"
    _check_field(option, name, fields, values, source)
    return values


def _check_field(
    option: str, name: str, fields: set[str], values: Sequence[Any], source: str
) -> None:
    """Raise ConfigError if no record has the field, or if values are not plain."""
    if name not in fields:
        known = sorted(fields)[:_LISTED]
        raise ConfigError(f"{option} {unknown_name('field', name, known)} (of {source})")
    bad = next((one for one in values if not _is_plain(one)), None)
    if bad is not None:
        raise ConfigError(
            f"{option} {name}: has values such as {str(bad)[:60]!r}; choose a field of texts or numbers"
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | int | float | bool) for one in value)
    return value is None or isinstance(value, str | int | float | bool)
