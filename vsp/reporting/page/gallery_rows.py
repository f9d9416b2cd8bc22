"""The rows of the gallery as data of the page: texts, pictures with boxes, predictions by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError, VspError
from vsp.escaping import escaped, one_line
from vsp.evaluation.row_fields import row_fields
from vsp.evaluation.row_verdicts import RowVerdicts, predicted_by_layer
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.thumbnails import Thumbnail, Thumbnails
from vsp.storage.manifest import Sample
from vsp.storage.results import run_beside

_DIGITS = 1  # of a box, in pixels
_PARTS = ("subject", "reference")
_LONGEST = 4000  # characters of a prompt


def gallery_data(
    run: PageRun, verdicts: RowVerdicts, chosen: NDArray[np.intp]
) -> tuple[dict[str, Any], list[str]]:
    """What the page's script shows of the chosen rows, and notes about what is missing."""
    layers, predicted = predicted_by_layer(run.results, verdicts, chosen)
    samples, no_samples = _samples(run, verdicts, chosen)
    fields, no_fields = row_fields(run.results, verdicts, chosen)
    thumbnails = Thumbnails()
    rows = [
        {
            **_of_verdicts(verdicts, place),
            "layers": predicted[:, number].tolist(),
            "fields": [_shown(values[number]) for values in fields.values()],
            **_of_sample(samples.get(int(verdicts.row[place])), thumbnails, no_samples),
        }
        for number, place in enumerate(chosen.tolist())
    ]
    for row in rows:
        if "why" in row:
            row["why"] = without_folders(row["why"], run)
    notes = [f"Prompts and pictures are not shown: {no_samples}."] if no_samples else []
    notes += [f"Rows have no fields to choose by: {no_fields}."] if no_fields else []
    data = {
        "rows": rows,
        "classes": [one_line(str(name)) for name in verdicts.classes],
        "layers": layers.tolist(),
        "selected": run.selected,
        "fields": [one_line(name) for name in fields],
        "pictures": thumbnails.addresses,
        "answers": verdicts.answer is not None,
    }
    return data, [without_folders(note, run) for note in notes]


def _shown(value: str | None) -> str | None:
    return None if value is None else one_line(value)


def _of_verdicts(verdicts: RowVerdicts, place: int) -> dict[str, Any]:
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


def _samples(
    run: PageRun, verdicts: RowVerdicts, chosen: NDArray[np.intp]
) -> tuple[Mapping[int, Sample], str]:
    """The samples of the chosen rows by row, and why there are none."""
    stored = run_beside(run.results.home)
    if stored is None:
        return {}, f"run {run.results.name} is not in scratch/ any more"
    wanted = set(verdicts.row[chosen].tolist())
    try:
        rows = enumerate(stored.manifest.rows())
        return {row: sample for row, sample in rows if row in wanted}, ""
    except RunError as error:
        return {}, str(error)


def _of_sample(sample: Sample | None, thumbnails: Thumbnails, why: str) -> dict[str, Any]:
    """Prompt and picture of a row, or why there is no picture."""
    if sample is None:
        return {"why": why or "the run has no such row"}
    found: dict[str, Any] = {"prompt": escaped(sample.prompt[:_LONGEST])}
    if not sample.image:
        return {**found, "why": "the row has no picture"}
    try:
        picture = thumbnails.add(sample.image, sample.image_sha256)
    except VspError as error:
        picture = str(error)
    if not isinstance(picture, Thumbnail):
        return {**found, "why": one_line(picture)}
    return {
        **found,
        "picture": picture.number,
        "size": [picture.width, picture.height],
        "boxes": _boxes(sample),
    }


def _boxes(sample: Sample) -> list[list[Any]]:
    """[part, name, left, top, right, bottom] of each box."""
    found: list[list[Any]] = []
    for part in _PARTS:
        box: tuple[float, ...] = getattr(sample, f"{part}_box")
        if len(box) == 4 and np.isfinite(box).all():
            name = one_line(str(getattr(sample, part)))
            found.append([part, name, *(round(float(edge), _DIGITS) for edge in box)])
    return found
