"""Predictions of each layer's probe and answers of the model for the tested rows; chooses rows to show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.study_rows import Texts, read_study_rows
from vsp.storage.results import Results

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RowVerdicts:
    """The tested rows of results of a probe that predicts labels.

    A probe is right on a row if it is in more than half of the repeats. If it is not, its prediction
    is the wrong label that most repeats predict.
    """

    place: NDArray[np.intp]  # [row], among the rows of the results
    row: NDArray[np.intp]  # [row], in the run
    id: Texts
    group: Texts
    label: Texts
    true: NDArray[np.intp]  # [row], the label's place in `classes`; -1: it is none of them
    classes: Texts
    peak: Texts  # [row], by the layer that the row's split selected on training rows
    knows: Flags  # [row]: that layer is right
    answer: Texts | None  # [row], the model's own; "" for a row without; None: no answers
    says: Flags  # [row]: the answer is right
    answerable: Flags  # [row]: it has an answer, and its label is one of the options
    margin: NDArray[np.float64]  # [row], score of the label's option minus the best other
    no_answers: str  # why there are none

    def __len__(self) -> int:
        return len(self.row)


def row_verdicts(results: Results) -> RowVerdicts:
    """Read the rows. Raises RunError for damaged results, ConfigError for a probe of numbers."""
    study = read_study_rows(results.name, results)
    arrays = results.arrays("predictions", ("rows", "classes", "answer_margin"))
    kept = np.flatnonzero(study.tested)
    label, classes = study.label[kept], arrays["classes"]
    place = {name: number for number, name in enumerate(classes.tolist())}
    true = np.array([place.get(one, -1) for one in label.tolist()], np.intp)
    votes = np.array(
        [[place[one] for one in of_repeat] for of_repeat in study.predicted[:, kept].tolist()],
        np.intp,
    )
    peak, knows = _by_majority(votes, true, len(classes))
    answer = None if study.answer is None else study.answer[kept]
    none = np.zeros(len(kept), np.bool_)
    margin = arrays.get("answer_margin", np.full(len(study.label), np.nan))[kept]
    return RowVerdicts(
        place=kept,
        row=arrays["rows"][kept].astype(np.intp),
        id=study.id[kept],
        group=study.group[kept],
        label=label,
        true=true,
        classes=classes,
        peak=classes[peak],
        knows=knows,
        answer=answer,
        says=none if answer is None else answer == label,
        answerable=none if answer is None else study.answerable[kept] & (answer != ""),
        margin=margin.astype(np.float64),
        no_answers=study.no_answers,
    )


def predicted_by_layer(
    results: Results, verdicts: RowVerdicts, chosen: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The layers, and the class that each predicts [layer, row] for the chosen rows of `verdicts`."""
    arrays = results.arrays("predictions", ("layers", "predicted"))
    votes = arrays["predicted"][:, :, verdicts.place[chosen]].astype(np.intp)
    true, n_classes = verdicts.true[chosen], len(verdicts.classes)
    predicted = [_by_majority(of_layer, true, n_classes)[0] for of_layer in votes]
    return arrays["layers"].astype(np.intp), np.array(predicted, np.intp).reshape(len(votes), -1)


def _by_majority(
    votes: NDArray[np.intp], true: NDArray[np.intp], n_classes: int
) -> tuple[NDArray[np.intp], Flags]:
    """Class [row], and whether it is right [row], from the votes [repeat, row]."""
    right = np.asarray(2 * (votes == true).sum(axis=0) > len(votes))
    counts = np.zeros((len(true), n_classes), np.intp)
    rows = np.arange(len(true))
    for of_repeat in votes:
        counts[rows, of_repeat] += 1
    known = true >= 0
    counts[rows[known], true[known]] = -1  # of the others, the most frequent
    return np.where(right, true, counts.argmax(axis=1)), right


def chosen_rows(verdicts: RowVerdicts, n_rows: int) -> NDArray[np.intp]:
    """At most `n_rows` places of rows, evenly over labels and over right and wrong, in row order.

    The order within a kind follows a hash of the ids, so that the same rows are chosen each time.
    """
    kinds: dict[tuple[str, bool, bool], list[tuple[bytes, int]]] = {}
    for place, one in enumerate(verdicts.id.tolist()):
        kind = (
            str(verdicts.label[place]),
            bool(verdicts.knows[place]),
            bool(verdicts.says[place]),
        )
        digest = hashlib.sha256(one.encode(errors="surrogatepass")).digest()
        kinds.setdefault(kind, []).append((digest, place))
    queues = [sorted(kinds[kind]) for kind in sorted(kinds)]
    chosen = [place for place, _ in zip(_in_turn(queues), range(n_rows), strict=False)]
    return np.array(sorted(chosen), np.intp)


def _in_turn(queues: list[list[tuple[bytes, int]]]) -> Iterator[int]:
    """One of each queue, then the next of each."""
    for number in range(max(map(len, queues), default=0)):
        for queue in queues:
            if number < len(queue):
                yield queue[number][1]
