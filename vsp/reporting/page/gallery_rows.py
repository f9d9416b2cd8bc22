"""The rows of the gallery as data of the page: texts, pictures with boxes, predictions by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ConfigError, RunError
from vsp.escaping import one_line
from vsp.evaluation.row_fields import Fields, row_kinds
from vsp.evaluation.row_verdicts import RowVerdicts, predicted_by_layer, row_verdicts
from vsp.evaluation.study_rows import place_of
from vsp.reporting.page.gallery_pictures import of_sample, samples_of
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.thumbnails import Thumbnails
from vsp.utils.text import format_count

_PICTURES = 2  # for each row, and one for each run; more would make the page large

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class GalleryData:
    """What the page's script shows, the further runs with rows in it, and what is missing."""

    values: dict[str, Any]
    further: tuple[str, ...]
    notes: tuple[str, ...]


def gallery_data(
    runs: Sequence[PageRun], verdicts: RowVerdicts, chosen: Places, by: str | None = None
) -> GalleryData:
    """The chosen rows of the first run, each with the same row of the further runs.

    A row is the same if its id and its group are. `by` is a field whose strata rows are filtered by.
    """
    first = runs[0]
    pictures = Thumbnails(most=_PICTURES * len(chosen) + len(runs))
    rows, notes = _rows(first, verdicts, chosen, pictures)
    kinds = row_kinds(first.results, verdicts, chosen, by)
    if kinds.why_not:
        notes.append(f"Rows have no fields to choose by: {kinds.why_not}.")
    if kinds.n_further:
        notes.append(f"Left out of the list of fields: {kinds.n_further:,} more.")
    shown = [_of_run(first, verdicts)]
    for row, strata, fields in zip(
        rows, _columns(kinds.strata, len(rows)), _columns(kinds.fields, len(rows)), strict=True
    ):
        row |= {"strata": strata, "fields": fields, "further": []}
    for run in runs[1:]:
        about, said = _add_further(run, rows, verdicts, chosen, pictures)
        shown += [about] if about else []
        notes += said
    if pictures.n_left_out:
        n = format_count(pictures.n_left_out, "picture")
        notes.append(
            f"{n} of further runs left out, to keep the page small: it has {pictures.most:,}."
        )
    values = {
        "rows": rows,
        "runs": shown,
        "strata": [one_line(name) for name in kinds.strata],
        "fields": [one_line(name) for name in kinds.fields],
        "pictures": pictures.addresses,
    }
    further = tuple(one["name"] for one in shown[1:])
    return GalleryData(values, further, tuple(without_folders(note, first) for note in notes))


def _of_run(run: PageRun, verdicts: RowVerdicts) -> dict[str, Any]:
    """What is the same for all rows of a run."""
    return {
        "name": run.name,
        "classes": [one_line(str(name)) for name in verdicts.classes],
        "layers": [score.layer for score in run.scores],
        "selected": run.selected,
        "answers": verdicts.answer is not None,
    }


def _columns(values: Fields, n_rows: int) -> list[list[str | None]]:
    """The values of each row."""
    return [
        [None if of[row] is None else one_line(str(of[row])) for of in values.values()]
        for row in range(n_rows)
    ]


def _add_further(
    run: PageRun,
    rows: Sequence[dict[str, Any]],
    verdicts: RowVerdicts,
    chosen: Places,
    pictures: Thumbnails,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Add what a further run says of the rows that it also has, and return what it lacks."""
    try:
        other = row_verdicts(run.results)
    except (RunError, ConfigError) as error:
        return None, [f"{run.name} is not beside the rows: {error}."]
    place = place_of(other.id, verdicts.id[chosen]) if len(other) else np.full(len(chosen), -1)
    found = (
        (place >= 0) & (other.group[place] == verdicts.group[chosen]) if len(other) else place >= 0
    )
    if not found.any():
        return None, [f"{run.name} has none of these rows."]
    its, notes = _rows(run, other, place[found], pictures)
    of_row = dict(zip(np.flatnonzero(found).tolist(), its, strict=True))
    for number, row in enumerate(rows):
        one = of_row.get(number)
        if one is not None:
            one = {key: value for key, value in one.items() if key not in ("id", "name")}
        row["further"].append(one)
    lacks = len(rows) - len(its)
    notes = [f"{run.name}: {note}" for note in notes]
    notes += [f"{run.name} lacks {lacks:,} of these rows."] if lacks else []
    return _of_run(run, other), notes


def _rows(
    run: PageRun, verdicts: RowVerdicts, chosen: Places, pictures: Thumbnails
) -> tuple[list[dict[str, Any]], list[str]]:
    """What results and run say of the chosen rows, and why prompts and pictures are missing."""
    _, predicted = predicted_by_layer(run.results, verdicts, chosen)
    samples, no_samples = samples_of(run, verdicts.row[chosen])
    rows = [
        {
            **_of_verdicts(verdicts, place),
            "layers": predicted[:, number].tolist(),
            **of_sample(samples.get(int(verdicts.row[place])), pictures, no_samples),
        }
        for number, place in enumerate(chosen.tolist())
    ]
    for row in rows:
        if "why" in row:
            row["why"] = without_folders(row["why"], run)
    missing = f"Prompts and pictures are not shown: {no_samples}."
    return rows, [without_folders(missing, run)] if no_samples else []


def _of_verdicts(verdicts: RowVerdicts, place: int) -> Mapping[str, Any]:
    """What results say of a row."""
    row_id = str(verdicts.id[place])
    found: dict[str, Any] = {
        "id": row_id,
        "name": one_line(row_id),
        "label": one_line(str(verdicts.label[place])),
        "true": int(verdicts.true[place]),
        "peak": one_line(str(verdicts.peak[place])),
        "knows": bool(verdicts.knows[place]),
    }
    if verdicts.answer is not None and verdicts.answerable[place]:
        margin = float(verdicts.margin[place])
        found["answer"] = one_line(str(verdicts.answer[place]))
        found["says"] = bool(verdicts.says[place])
        found["margin"] = round(margin, 2) if np.isfinite(margin) else None
    return found
