"""What the model says beside what a probe reads: its own answers and the peak, on the same rows.

The rows are those that the peak was tested on and whose label is one of their options. The model's
own answer is the same in every repeat of the splits; that of the probe is not. Figures are means over
repeats, as those of the peak are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from vsp.choices import ANSWER_SCORES, AnswerScore
from vsp.evaluation.answers import RowOptions, best_option, margins, name_options
from vsp.evaluation.column_table import (
    ColumnTable,
    Interval,
    TestedRows,
    column_intervals,
    differences,
)
from vsp.evaluation.design import Design
from vsp.evaluation.evaluate import EvaluatedRows, EvaluationSettings
from vsp.evaluation.metrics import METRICS, Metric
from vsp.evaluation.peak import Selection, recall_intervals, share_right
from vsp.evaluation.scores import Floats, are_numbers
from vsp.evaluation.sign_flips import n_sign_flips, sign_flip_p
from vsp.evaluation.statistics import Folds, GroupSums, bootstrap_groups
from vsp.evaluation.tested_rows import losses_of_labels

Key = TypeVar("Key")

_FLIPS = 1999  # random sign vectors; if there are not more than that, all are used


@dataclass(frozen=True, slots=True)
class Says:
    """Figures of the model's own answers; without `summary`, why there are none."""

    summary: dict[str, Any] | None
    why_not: str = ""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # for predictions.npz
    lens: Mapping[int, Interval] = field(default_factory=dict)  # layer → score of the lens


@dataclass(frozen=True, slots=True)
class _Rows:
    """The judged rows, and what probe and model predict for them."""

    test: TestedRows
    knows: NDArray[np.intp]  # class that the peak predicts [repeat, row]
    says: NDArray[np.intp]  # name of the model's own answer [row]
    excess: Floats  # inner validation score minus test score of the peak [outer]
    statistic: str  # of `excess`

    @property
    def answers(self) -> NDArray[np.intp]:
        """The model's own answer [repeat, row]."""
        return np.broadcast_to(self.says, self.knows.shape)

    @property
    def says_right(self) -> NDArray[np.bool_]:
        return np.asarray(self.answers == self.test.y)

    @property
    def knows_right(self) -> NDArray[np.bool_]:
        return np.asarray(self.knows == self.test.y)


def says_beside_peak(
    options: RowOptions,
    kind: AnswerScore,
    rows: EvaluatedRows,
    peak: Selection,
    layers: Sequence[int],
    settings: EvaluationSettings,
) -> Says:
    """Compare the model's own answers with the peak; `options` are of `rows`.

    `kind` is the score that chooses an answer; it must exist. The lens is read at `layers`.
    """
    if are_numbers(rows.y):
        return Says(None, "the probe predicts numbers, and options are texts")
    scores = options.scores(kind)
    assert scores is not None, "refused before the fits"
    index, names = name_options(options.texts, rows.names, scores.shape[1])
    is_label = (index == rows.y[:, None]) & ~np.isnan(scores)
    has_label, ever = is_label.any(axis=1), (rows.design.test_split >= 0).any(axis=0)
    if not (ever & has_label).any():
        return Says(None, f"none of {int(ever.sum())} test rows has its label among its options")
    chosen, is_tied = best_option(scores)
    judged = _Rows(
        TestedRows(rows.y, rows.group, _only(rows.design, has_label)),
        peak.arrays["predicted"].astype(np.intp),
        _names_of(index, chosen),
        peak.excess,
        rows.metric.statistic,
    )
    metric = rows.metric if rows.metric.reads_labels else METRICS["accuracy"]
    lens = _lens_answers(options, kind, index, layers)
    summary = {
        "score": kind,
        "n_rows": int((ever & has_label).sum()),
        "n_no_label": int((ever & ~has_label).sum()),
        "n_ties": int((ever & has_label & is_tied).sum()),
        "prior": options.prior_source,
        "no_lens": _why_no_lens(options, kind),
        "scores": _score_intervals(options, index, judged.test, metric, settings),
        **_beside(judged, metric, rows.names, settings),
    }
    arrays = _arrays(judged, names, scores, margins(scores, is_label))
    return Says(summary, "", arrays, _answer_intervals(judged.test, metric, lens, settings))


def _beside(
    judged: _Rows, metric: Metric, names: Sequence[str], settings: EvaluationSettings
) -> dict[str, Any]:
    """Fields of the summary that compare the answers with the peak."""
    return {
        "statistic": metric.statistic,
        "figures": {
            one.statistic: _figures(judged, one, settings)
            for one in dict.fromkeys((metric, METRICS["accuracy"]))
        },
        "recall": _recall(judged, names, settings),
        "table": _table(judged),
        "test": _test(judged, settings),
        "agreement": _agreement(judged, settings),
    }


def _score_intervals(
    options: RowOptions,
    index: NDArray[np.intp],
    test: TestedRows,
    metric: Metric,
    settings: EvaluationSettings,
) -> dict[str, Interval | None]:
    """Score and interval of the answers by each kind of score; None for one that needs a prior."""
    answers = {}
    for kind in ANSWER_SCORES:
        scores = options.scores(kind)
        if scores is not None:
            answers[kind] = _best_names(index, scores)
    intervals = _answer_intervals(test, metric, answers, settings)
    return {kind: intervals.get(kind) for kind in ANSWER_SCORES}


def _only(design: Design, rows: NDArray[np.bool_]) -> Design:
    """The same splits, of which only `rows` [row] are tested."""
    outer = tuple(replace(one, test=one.test[rows[one.test]]) for one in design.outer)
    return replace(design, outer=outer)


def _names_of(index: NDArray[np.intp], chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    """The name of the chosen option [row]; -1 without one. `index` is [row, option]."""
    of_chosen = np.take_along_axis(index, np.maximum(chosen, 0)[:, None], axis=1)[:, 0]
    return np.where(chosen >= 0, of_chosen, -1)


def _best_names(index: NDArray[np.intp], scores: Floats) -> NDArray[np.intp]:
    return _names_of(index, best_option(scores)[0])


def _lens_answers(
    options: RowOptions, kind: AnswerScore, index: NDArray[np.intp], layers: Sequence[int]
) -> dict[int, NDArray[np.intp]]:
    """Layer → answers [row] that are read from its states; empty without a lens."""
    found = {}
    for layer in layers:
        scores = options.lens_scores(kind, layer)
        if scores is not None:
            found[layer] = _best_names(index, scores)
    return found


def _why_no_lens(options: RowOptions, kind: AnswerScore) -> str:
    """Why a stored lens has no scores of this kind; empty if it has, or if none is stored."""
    if options.lens is None or options.lens_scores(kind, 0) is not None:
        return ""
    return (
        f"run {options.prior_source} with blank pictures stores no lens, which --answer-score {kind} "
        "needs; plan it with `vsp plan --lens`"
    )


def _answer_intervals(
    test: TestedRows,
    metric: Metric,
    answers: Mapping[Key, NDArray[np.intp]],
    settings: EvaluationSettings,
) -> dict[Key, Interval]:
    """Score and interval of each of `answers` [row].

    No split had a part in an answer, so the interval has no term for folds.
    """
    if not answers:
        return {}
    repeats = test.tested.shape
    losses = [
        test.group_sums(losses_of_labels(metric, test.y, test.design, np.broadcast_to(a, repeats)))
        for a in answers.values()
    ]
    sums = GroupSums(
        np.stack(losses),
        test.group_sums(test.tested.astype(np.float64)),
        size=test.size_for(metric),
        is_proportion=True,
        inner_excess=np.zeros((1, len(losses))),
        folds=Folds(),
    )
    draws = settings.confidence, settings.resamples, settings.seed
    return dict(zip(answers, column_intervals(bootstrap_groups(sums, *draws)), strict=True))


def _figures(
    judged: _Rows, metric: Metric, settings: EvaluationSettings
) -> dict[str, dict[str, Any] | None]:
    """Score of the answers and of the peak, and the paired difference of the peak to the answers."""
    test = judged.test
    table = ColumnTable(test, test.tested.astype(np.float64), metric)
    # The inner scores are those of the run's metric; for another, the largest effect is assumed.
    known = metric.statistic == judged.statistic
    excess = judged.excess if known else np.full_like(judged.excess, np.nan)
    table.add("knows", losses_of_labels(metric, test.y, test.design, judged.knows), excess)
    table.add("says", losses_of_labels(metric, test.y, test.design, judged.answers))
    bootstrap = table.bootstrap(settings.confidence, settings.resamples, settings.seed)
    of_answers = _answer_intervals(test, metric, {"says": judged.says}, settings)
    return {
        "says": of_answers["says"],
        "knows": column_intervals(bootstrap)[0],
        "difference": differences(bootstrap, [0], reference=1)[0],
    }


def _recall(
    judged: _Rows, names: Sequence[str], settings: EvaluationSettings
) -> dict[str, dict[str, Any]]:
    """Recall of each label by the answers and by the peak, each with its interval."""
    draws = settings.confidence, settings.resamples, settings.seed
    says, knows = (
        recall_intervals(judged.test, one, names, *draws) or {}
        for one in (judged.answers, judged.knows)
    )
    return {name: {"says": says[name], "knows": knows[name]} for name in names}


def _table(judged: _Rows) -> dict[str, float]:
    """Rows by whether probe and answer are right: counts of each repeat, averaged over repeats."""
    knows, says = judged.knows_right, judged.says_right

    def count(rows: NDArray[np.bool_]) -> float:
        return float((rows & judged.test.tested).sum(axis=1).mean())

    return {
        "both": count(knows & says),
        "only_knows": count(knows & ~says),
        "only_says": count(~knows & says),
        "neither": count(~knows & ~says),
    }


def _test(judged: _Rows, settings: EvaluationSettings) -> dict[str, Any]:
    """p values of equal accuracies of probe and answer.

    `p` is valid for rows that depend on each other within groups: under the null hypothesis, probe
    and answer are exchangeable within a group, so the difference of a group can change its sign.
    `p_rows` is McNemar's exact test of the rows of the first repeat as if they were independent
    (McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", 1947).
    """
    test, tested = judged.test, judged.test.tested
    gained = test.group_sums((judged.knows_right.astype(np.float64) - judged.says_right) * tested)
    gained /= tested.sum(axis=1).mean()
    known = judged.statistic == METRICS["accuracy"].statistic
    excess = judged.excess if known else np.full_like(judged.excess, np.nan)
    folds = Folds(test.design.n_folds, test.design.n_repeats)
    p, _ = sign_flip_p(gained[None], excess[:, None], folds, _FLIPS, settings.seed)
    only_knows = int((judged.knows_right & ~judged.says_right & tested)[0].sum())
    only_says = int((~judged.knows_right & judged.says_right & tested)[0].sum())
    discordant = only_knows + only_says
    return {
        "p": float(p[0]),
        "n_flips": n_sign_flips(test.n_groups, _FLIPS),
        "p_rows": float(binomtest(only_knows, discordant).pvalue) if discordant else 1.0,
    }


def _agreement(judged: _Rows, settings: EvaluationSettings) -> dict[str, Any]:
    """Share of rows for which probe and answer name the same, and Cohen's kappa.

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960. Rows of all repeats count
    alike; None if both always name the same single label.
    """
    test = judged.test
    same = np.asarray(judged.knows == judged.answers)
    folds = Folds(test.design.n_folds, test.design.n_repeats)
    draws = settings.confidence, settings.resamples, settings.seed
    share = share_right(test, same, test.tested, folds, *draws)
    knows, says = judged.knows[test.tested], judged.answers[test.tested]
    n_names = int(max(knows.max(), says.max())) + 1
    by_chance = float(
        np.bincount(knows, minlength=n_names)
        @ np.bincount(says, minlength=n_names)
        / len(says) ** 2
    )
    kappa = None if by_chance == 1 else (share["score"] - by_chance) / (1 - by_chance)
    return {"share": share, "kappa": kappa}


def _arrays(
    judged: _Rows, names: Sequence[str], scores: Floats, margin: Floats
) -> dict[str, NDArray[Any]]:
    """The predictions of the peak and the answers, for predictions.npz."""
    used, code = np.unique(judged.says, return_inverse=True)
    is_answer = used >= 0
    return {
        "peak": judged.knows.astype(np.int32),
        "answer": (code - int((~is_answer).sum())).astype(np.int32),
        "answer_names": np.array([names[k] for k in used[is_answer].tolist()], dtype=np.str_),
        "answer_scores": scores.astype(np.float32),
        "answer_margin": margin.astype(np.float32),
    }
