"""Predictions that use no states: the most common label of each prompt among the training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.splitting import integer_codes
from vsp.evaluation.design import Design
from vsp.evaluation.metrics import Metric, label_shares, log_shares, score_of_sums
from vsp.evaluation.scores import Floats, are_numbers
from vsp.evaluation.tested_rows import score_splits

# Baselines that read the words of a row only, in the order in which equally good ones are chosen.
WORDS = ("look-up", "names", "words")


def look_up(
    metric: Metric, y: NDArray[Any], design: Design, prompt: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Predict each row from the training rows with the same prompt; arrays as of a fitted layer.

    `prompt` is [row]. The share of a label is (n + its share of all training rows) / (N + 1) with n
    of N training rows of this prompt. A prompt without training rows therefore gets the shares, or
    the mean, of all of them.
    """
    code = integer_codes(prompt)
    inner = [  # outer splits can have different numbers of inner splits
        np.mean([
            _score(metric, y, design.train_sets[one.train_set], one.validation, code)
            for one in outer.inner
        ])
        for outer in design.outer
    ]  # fmt: skip
    scores = [
        _scores(metric, y, design.train_sets[outer.train_set], outer.test, code)
        for outer in design.outer
    ]
    predicted = np.zeros((design.n_repeats, len(y)), dtype=y.dtype)
    for outer, of_outer in zip(design.outer, scores, strict=True):
        said = of_outer[0] if are_numbers(y) else of_outer.argmax(axis=0)
        predicted[outer.repeat, outer.test] = said
    loss, base, of_split = score_splits(metric, y, design, scores, "softmax")
    return {
        "inner": np.array(inner)[:, None],
        "chosen": np.zeros(len(design.outer), dtype=np.intp),
        "outer_score": of_split,
        "predicted": predicted,
        "loss": loss,
        "base": base,
    }


def _score(
    metric: Metric,
    y: NDArray[Any],
    train: NDArray[np.bool_],
    rows: NDArray[np.intp],
    code: NDArray[np.intp],
) -> float:
    scores = _scores(metric, y, train, rows, code)
    return float(score_of_sums(metric.sums(y[rows], scores, label_shares(y, train), "softmax")))


def _scores(
    metric: Metric,
    y: NDArray[Any],
    train: NDArray[np.bool_],
    rows: NDArray[np.intp],
    code: NDArray[np.intp],
) -> Floats:
    """Logarithms of label shares [class, row], or means [1, row], of the training rows' prompts."""
    n_codes, shares = int(code.max()) + 1, label_shares(y, train)
    n = np.bincount(code[train], minlength=n_codes)
    if are_numbers(y):
        total = np.bincount(code[train], y[train], n_codes)
        return np.where(n > 0, total / np.maximum(n, 1), shares[0])[None, code[rows]]
    n_classes = len(shares)
    counts = np.bincount(code[train] * n_classes + y[train], minlength=n_codes * n_classes)
    of_code = counts.reshape(n_codes, n_classes) + shares
    scores = log_shares(of_code / (n[:, None] + 1))
    if metric.balances and metric.reads_labels:
        scores -= log_shares(shares)  # as with class weights: relative to all training rows
    return np.asarray(scores[code[rows]].T)
