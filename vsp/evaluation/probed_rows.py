"""The rows that take part in a probe run, and what is drawn at random from them.

Folds, permutations, control labels and learning portions are made in the order of ids. They do not
depend on the order of the rows in the dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ProbeError
from vsp.storage.manifest import Sample

_TEXTS = ("id", "label", "group", "prompt", "split", "subject", "reference")


@dataclass(frozen=True, slots=True)
class ProbedRows:
    """The rows that take part, each array [row]."""

    row: NDArray[np.intp]  # in the store
    id: NDArray[np.str_]
    label: NDArray[np.str_]
    group: NDArray[np.str_]
    prompt: NDArray[np.str_]
    split: NDArray[np.str_]
    subject: NDArray[np.str_]  # name; empty if the dataset has none
    reference: NDArray[np.str_]
    subject_box: NDArray[np.float64]  # [row, 4], as shares of width and height; nan: no box
    reference_box: NDArray[np.float64]

    @classmethod
    def of(cls, samples: Sequence[Sample], done: NDArray[np.intp]) -> ProbedRows:
        """The rows `done` of all samples. Raises ProbeError if there are none."""
        if not len(done):
            raise ProbeError(f"none of {len(samples)} rows is extracted; run `vsp extract` first")
        chosen = [samples[row] for row in done.tolist()]
        texts = {name: np.array([getattr(one, name) for one in chosen]) for name in _TEXTS}
        boxes = {
            name: np.array([_share_of_image(getattr(one, name), one.image_size) for one in chosen])
            for name in ("subject_box", "reference_box")
        }
        return cls(np.asarray(done, np.intp), **texts, **boxes)

    def take(self, order: NDArray[np.intp]) -> ProbedRows:
        """The rows in this order."""
        return ProbedRows(**{one.name: getattr(self, one.name)[order] for one in fields(self)})

    @property
    def names(self) -> NDArray[np.str_] | None:
        """Subject and reference in one text [row]; None if a row has no subject."""
        if (self.subject == "").any():
            return None
        return np.char.add(np.char.add(self.subject, "\n"), self.reference)

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """All arrays, from which a digest is computed."""
        return [getattr(self, one.name) for one in fields(self)]


def _share_of_image(box: Sequence[float], size: Sequence[int]) -> tuple[float, ...]:
    if not box or not size:
        return (np.nan,) * 4
    width, height = size
    left, top, right, bottom = box
    return left / width, top / height, right / width, bottom / height
