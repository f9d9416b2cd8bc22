"""Which saved probe judges a row: one that was fitted neither on the row nor on its picture.

A probe run with folds saves one probe that is fitted on all rows, and one for each outer split. A row
that the run did not use is judged by the first. A row that it did use is judged, in each repeat, by
the probe of an outer split whose training rows have neither the row nor its picture. A row for which
there is none is left out. The run's own test rows are judged by the split that tests them, also where
a split that was drawn by row leaves their pictures among its training rows.

With the dataset's own split there is one probe. All rows of the run but the tested ones count as used,
since strength and layer are chosen on rows with split val.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design, OuterSplit
from vsp.evaluation.row_identity import RowIdentity

FINAL = -1  # the probe that is fitted on all training rows
NONE = -2  # no probe may judge the row


@dataclass(frozen=True, slots=True)
class FittedRows:
    """The rows of a probe run, and which of them each saved probe was fitted on."""

    identity: RowIdentity
    outer: NDArray[np.intp]  # [repeat, row], outer split that tests a row, or -1
    fitted: NDArray[np.bool_]  # [row], of the final probe
    outer_fitted: NDArray[np.bool_]  # [outer, row]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> FittedRows:
        """From the arrays of predictions.npz."""
        return cls(
            RowIdentity(arrays["key"], arrays["image"], arrays["image_name"]),
            arrays["outer"].astype(np.intp),
            arrays["fitted"],
            arrays["outer_fitted"],
        )

    def judges(self, rows: RowIdentity) -> NDArray[np.intp]:
        """The judge of each row [repeat, row]: an outer split, `FINAL` or `NONE`.

        A row that the run itself does not test in a repeat, as can be where names are held out, has no
        judge there. Otherwise a row has a judge in every repeat or in none.
        """
        used = self.fitted | (self.outer < 0).all(axis=0)
        own = self._tested_by(rows)
        final_seen = self._seen(used[None], rows)[0]
        if len(self.outer_fitted) == 1:
            return np.where(final_seen & (own[0] < 0), NONE, FINAL)[None]
        seen, place = self._seen(self.outer_fitted, rows), self.place_of(rows)
        untested = (place >= 0) & (self.outer[:, place] < 0)
        judge = np.full((len(self.outer), len(final_seen)), FINAL)
        for repeat, of_repeat in enumerate(self.outer):
            splits = np.unique(of_repeat[of_repeat >= 0])
            first_unseen = splits[seen[splits].argmin(axis=0)]
            other = np.where(seen[splits].all(axis=0) | untested[repeat], NONE, first_unseen)
            judge[repeat, final_seen] = np.where(own[repeat] >= 0, own[repeat], other)[final_seen]
        judge[:, ((judge == NONE) & ~untested).any(axis=0)] = NONE
        return judge

    def pictures_fitted(self, rows: RowIdentity, judge: NDArray[np.intp]) -> int:
        """How many rows have a judge that was fitted on their picture, in the first repeat."""
        shown = rows.shows_one_of(self.identity.take(np.flatnonzero(self.fitted)))
        by_final = (judge[0] == FINAL) & shown
        n = int(by_final.sum())
        for split, members in enumerate(self.outer_fitted):
            judged = np.flatnonzero(judge[0] == split)
            of_split = self.identity.take(np.flatnonzero(members))
            n += int(rows.take(judged).shows_one_of(of_split).sum())
        return n

    def _seen(self, fitted: NDArray[np.bool_], rows: RowIdentity) -> NDArray[np.bool_]:
        """Whether the rows `fitted` [set, row] have each of `rows` or its picture [set, row]."""
        return np.stack([
            np.isin(rows.key, self.identity.key[members])
            | rows.shows_one_of(self.identity.take(np.flatnonzero(members)))
            for members in fitted
        ])  # fmt: skip

    def _tested_by(self, rows: RowIdentity) -> NDArray[np.intp]:
        """The outer split that tests the same row about the same picture [repeat, row], or -1."""
        place = self.place_of(rows)
        same = (place >= 0) & rows.same_picture(self.identity.take(np.maximum(place, 0)))
        return np.where(same, self.outer[:, place], -1)

    def place_of(self, rows: RowIdentity) -> NDArray[np.intp]:
        """The row of the probe run with the same key [row]; -1 if there is none."""
        order = np.argsort(self.identity.key, kind="stable")
        keys = self.identity.key[order]
        place = order[np.minimum(np.searchsorted(keys, rows.key), len(order) - 1)]
        return np.where(self.identity.key[place] == rows.key, place, -1)


def judging_design(judge: NDArray[np.intp]) -> Design:
    """The rows that each judge tests, as a design without training rows; `judge` is [repeat, row]."""
    outer = tuple(
        OuterSplit(repeat, 0, np.flatnonzero(of_repeat == one), ())
        for repeat, of_repeat in enumerate(judge)
        for one in np.unique(of_repeat[of_repeat != NONE])
    )
    n_rows = judge.shape[1]
    return Design(
        np.zeros((1, n_rows), dtype=np.bool_), outer, 0, len(judge), np.zeros(n_rows, np.intp), ""
    )
