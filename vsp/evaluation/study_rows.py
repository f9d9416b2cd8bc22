"""Predictions of the probe and answers of the model for the rows of a run, read from its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ConfigError, RunError
from vsp.evaluation.matched_runs import read_tested_run
from vsp.evaluation.statistics import Folds, first_best
from vsp.storage.results import Results
from vsp.storage.summary import ComparedSummary

Texts = NDArray[np.str_]
_ARRAYS = ("id", "group", "label", "classes", "layers", "outer", "predicted", "fitted", "answer",
           "answer_names", "answer_margin")  # fmt: skip


@dataclass(frozen=True, eq=False)
class StudyRows:
    """The rows of a probe run: labels, predictions of the selected layer, and the model's answers."""

    name: str
    probe: str  # names of probe and treatment
    statistic: str
    variants: tuple[str, ...]  # applied to the original dataset, in order
    layers: tuple[int, ...]  # that the outer splits selected
    layer_of_split: NDArray[np.intp]  # [outer], selected on training rows
    folds: Folds
    id: Texts
    group: Texts
    label: Texts
    outer: NDArray[np.intp]  # [repeat, row], or -1
    tested: NDArray[np.bool_]  # [row], in every repeat
    predicted: Texts  # [repeat, row], by the selected layer of the split that tests the row
    usual: str  # the most frequent label of the training rows
    answer: Texts | None  # [row]; "" for a row without; None: no answers
    answerable: NDArray[np.bool_]  # [row], the label is one of the options
    no_answers: str  # why there are none

    def place_of(self, ids: Texts) -> NDArray[np.intp]:
        """The row of each id; -1 if there is none."""
        return place_of(self.id, ids)


def place_of(known: Texts, ids: Texts) -> NDArray[np.intp]:
    """The index in `known`, whose texts differ, of each of `ids`; -1 if there is none."""
    order = np.argsort(known, kind="stable")
    place = order[np.minimum(np.searchsorted(known[order], ids), len(order) - 1)]
    return np.where(known[place] == ids, place, -1)


def read_study_rows(name: str, results: Results) -> StudyRows:
    """Read the rows of results.

    Raises RunError if results are damaged, ConfigError if the probe predicts numbers.
    """
    tested = read_tested_run(name, results)  # raises if an array is not what vsp writes
    if not tested.is_label:
        raise ConfigError(f"{name}: its probe predicts numbers; a verdict is about labels")
    arrays = results.arrays("predictions", _ARRAYS)
    summary = results.summary(ComparedSummary)
    outer = arrays["outer"].astype(np.intp)
    best = np.flatnonzero(tested.layers == tested.best_layer)
    chosen = best if tested.inner is None else first_best(tested.inner)
    if len(chosen) == 1 and outer.max() > 0:
        chosen = np.full(int(outer.max()) + 1, chosen[0])
    answer = _answers(arrays)
    label = arrays["label"]
    margin = arrays.get("answer_margin")
    return StudyRows(
        name=name,
        probe=tested.probe,
        statistic=tested.statistic,
        variants=tested.variants,
        layers=tuple(sorted({int(tested.layers[k]) for k in chosen})),
        layer_of_split=np.asarray(tested.layers[chosen], np.intp),
        folds=Folds(len(np.unique(outer[0][outer[0] >= 0])), len(outer)),
        id=arrays["id"],
        group=arrays["group"],
        label=label,
        outer=outer,
        tested=np.asarray((outer >= 0).all(axis=0)),
        predicted=_predicted(results, arrays, chosen),
        usual=_usual(label, arrays.get("fitted")),
        answer=answer,
        answerable=np.zeros(len(label), np.bool_) if margin is None else ~np.isnan(margin),
        no_answers="" if answer is not None else str(summary.get("no_answers") or "not recorded"),
    )


def _predicted(
    results: Results, arrays: Mapping[str, NDArray[Any]], chosen: NDArray[np.intp]
) -> Texts:
    """Names [repeat, row] that the chosen layer [outer] predicts; "" for rows that are not tested."""
    predicted, classes = arrays.get("predicted"), arrays.get("classes")
    outer = arrays["outer"]
    if predicted is None or classes is None or predicted.shape[1:] != outer.shape:
        raise RunError(
            f"{results.folder}: was written by an older vsp, which did not keep predictions by row; "
            f"run `vsp probe --run {results.name}` again"
        )
    layer = np.where(outer >= 0, chosen[np.maximum(outer, 0)], 0)
    repeat, row = np.indices(outer.shape)
    index = predicted[layer, repeat, row].astype(np.intp)
    if index[outer >= 0].max(initial=0) >= len(classes):
        raise RunError(
            f"{results.folder}: predictions are of no class; run `vsp probe --run {results.name}` again"
        )
    named = np.append(classes, "")
    return named[np.where(outer >= 0, index, -1)]


def _usual(label: Texts, fitted: NDArray[np.bool_] | None) -> str:
    names, counts = np.unique(label if fitted is None else label[fitted], return_counts=True)
    return str(names[counts.argmax()])


def _answers(arrays: Mapping[str, NDArray[Any]]) -> Texts | None:
    """The name of the model's own answer [row]; None without answers."""
    answer, names = arrays.get("answer"), arrays.get("answer_names")
    if answer is None or names is None:
        return None
    named = np.append(names, "")
    return named[np.where(answer >= 0, answer, len(names))]
