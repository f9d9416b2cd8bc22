"""Fields of rows by which a reader may look at them: strata, and fields of the dataset's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class RowKinds:
    """Fields by whose values the chosen rows are divided."""

    strata: Fields  # usual label, box cue, and a field that was asked for
    fields: Fields  # of the records
    n_further: int = 0  # fields that also divide them, beyond the first ones
    why_not: str = ""  # why there are none


def row_kinds(
    results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp], by: str | None = None
) -> RowKinds:
    """The strata, also of the field `by`, and the fields of the records that divide the chosen rows."""
    try:
        strata = _strata(results, verdicts, chosen, by)
        fields = _of_records(results, verdicts, chosen)
    except (RunError, ConfigError, DatasetError) as error:
        return RowKinds({}, {}, why_not=str(error))
    kept = [*fields][:_MOST_FIELDS]
    return RowKinds(strata, {name: fields[name] for name in kept}, len(fields) - len(kept))


def _strata(
    results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp], by: str | None
) -> Fields:
    """The strata of the chosen rows among all tested rows, as the scores have them."""
    rows = read_study_rows(results.name, results)
    asked = [] if by is None else [by]
    found = {}
    for name in dict.fromkeys([*asked, intuition.USUAL_LABEL, intuition.BOX_CUE]):
        values = row_strata(results, rows, verdicts.place, name)[1]
        of_chosen = [values[place] for place in chosen.tolist()]
        if _divides(of_chosen) or (name == by and len({*of_chosen}) > 1):
            found[name] = of_chosen
    return found


def _of_records(results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp]) -> Fields:
    picked = pick_rows(results, verdicts.id[chosen], _plain_fields)
    names = sorted({name for record in picked.values for name in record or {}})
    columns = {name: [(one or {}).get(name) for one in picked.values] for name in names}
    return {name: columns[name] for name in names if _divides(columns[name])}


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
