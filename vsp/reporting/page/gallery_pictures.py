"""Prompt, picture and boxes of the gallery's rows, from the run in `scratch/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError, VspError
from vsp.escaping import escaped, one_line
from vsp.reporting.page.page_run import PageRun
from vsp.reporting.page.thumbnails import Thumbnail, Thumbnails
from vsp.storage.manifest import Sample
from vsp.storage.results import run_beside

_DIGITS = 1  # of a box, in pixels
_PARTS = ("subject", "reference")
_LONGEST = 4000  # characters of a prompt


def samples_of(run: PageRun, rows: NDArray[np.intp]) -> tuple[Mapping[int, Sample], str]:
    """The samples of these rows of the run by row, and why there are none."""
    stored = run_beside(run.results.home)
    if stored is None:
        return {}, f"run {run.results.name} is not in scratch/ any more"
    wanted = set(rows.tolist())
    try:
        every = enumerate(stored.manifest.rows())
        return {row: sample for row, sample in every if row in wanted}, ""
    except RunError as error:
        return {}, str(error)


def of_sample(sample: Sample | None, thumbnails: Thumbnails, why: str) -> dict[str, Any]:
    """Prompt and picture of a row, or why there is no picture."""
    if sample is None:
        return {"why": why or "the run has no such row"}
    found: dict[str, Any] = {"prompt": _prompt(sample.prompt)}
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


def _prompt(text: str) -> str:
    n_more = len(text) - _LONGEST
    return (
        escaped(text)
        if n_more <= 0
        else f"{escaped(text[:_LONGEST])} … ({n_more:,} characters more)"
    )


def _boxes(sample: Sample) -> list[list[Any]]:
    """[part, name, left, top, right, bottom] of each box."""
    found: list[list[Any]] = []
    for part in _PARTS:
        box: tuple[float, ...] = getattr(sample, f"{part}_box")
        if len(box) == 4 and np.isfinite(box).all():
            name = one_line(str(getattr(sample, part)))
            found.append([part, name, *(round(float(edge), _DIGITS) for edge in box)])
    return found
