"""Fields of rows by which a reader may look at them: strata, and fields of the dataset's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.metadata import LABEL_KEYS
from vsp.errors import ConfigError, DatasetError, RunError
from vsp.evaluation import intuition
from vsp.evaluation.record_fields import pick_rows
from vsp.evaluation.row_verdicts import RowVerdicts
from vsp.evaluation.strata import row_strata
from vsp.evaluation.study_rows import read_study_rows
from vsp.storage.results import Results

MOST_VALUES = 24  # of a field; one with more does not divide rows into kinds
_LONGEST = 80  # characters of a value
_MOST_FIELDS = 16  # of a list to choose from
# Fields that name a row, or that the page shows elsewhere.
_NO_KINDS = frozenset(
    (*LABEL_KEYS, "id", "image_id", "image", "image_filename", "image_sha256", "group", "prompt",
     "depth", "depth_filename", "n_tokens", "n_shared")
)  # fmt: skip

Fields = Mapping[str, Sequence[str | None]]  # name → value of each row; None: it has none


def row_fields(
    results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp]
) -> tuple[Fields, str]:
    """The fields that divide the chosen rows, and why there are none if they cannot be read."""
    try:
        return {**_strata(results, verdicts, chosen), **_of_records(results, verdicts, chosen)}, ""
    except (RunError, ConfigError, DatasetError) as error:
        return {}, str(error)


def _strata(results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp]) -> Fields:
    rows = read_study_rows(results.name, results)
    found = {
        name: row_strata(results, rows, verdicts.place[chosen], name)[1]
        for name in (intuition.USUAL_LABEL, intuition.BOX_CUE)
    }
    return {name: values for name, values in found.items() if _divides(values)}


def _of_records(results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp]) -> Fields:
    picked = pick_rows(results, verdicts.id[chosen], _plain_fields)
    names = sorted({name for record in picked.values for name in record or {}})
    columns = {name: [(one or {}).get(name) for one in picked.values] for name in names}
    kept = [name for name in names if _divides(columns[name])]
    return {name: columns[name] for name in kept[:_MOST_FIELDS]}


def _plain_fields(record: Mapping[str, Any]) -> dict[str, str]:
    """The short texts, numbers and truth values of a record, as text."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in record.items()
        if name not in _NO_KINDS
        and isinstance(value, str | int | float)
        and 0 < len(str(value)) <= _LONGEST
    }


def _divides(values: Sequence[str | None]) -> bool:
    return 1 < len({*values}) <= MOST_VALUES and len({*values} - {None}) > 0
