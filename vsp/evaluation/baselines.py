"""Predictions that use no states: the majority label, and the majority label of each prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design
from vsp.evaluation.scores import Floats, are_numbers


def majority(y: NDArray[Any], design: Design) -> NDArray[Any]:
    """Most common label of the final training set, or mean of each training set [repeat, row].

    The labels of each fold's own training set are not used. If two labels are about equally common,
    the more common label of the training set is the rarer label of the test fold, and the baseline
    would be far below one half.
    """
    predicted = np.zeros((design.n_repeats, len(y)), dtype=y.dtype)
    if not are_numbers(y):
        predicted[:] = np.bincount(y[design.train_sets[design.final]]).argmax()
        return predicted
    for split in design.outer:
        predicted[split.repeat, split.test] = y[design.train_sets[split.train_set]].mean()
    return predicted


def prompt_only(y: NDArray[Any], design: Design, prompt: NDArray[np.intp]) -> NDArray[Any]:
    """Most common label, or mean, of the training rows with the same prompt [repeat, row].

    `prompt` [row] are numbers from 0. A prompt without training rows gets the most common label, or
    the mean, of all training rows.
    """
    of_prompt = _means if are_numbers(y) else _most_common
    predicted = np.zeros((design.n_repeats, len(y)), dtype=y.dtype)
    for split in design.outer:
        train = design.train_sets[split.train_set]
        values = of_prompt(prompt[train], y[train], int(prompt.max()) + 1)
        predicted[split.repeat, split.test] = values[prompt[split.test]]
    return predicted


def n_known_prompts(design: Design, prompt: NDArray[np.intp]) -> int:
    """Test rows of the first repeat whose prompt also occurs in their training rows."""
    splits = [design.outer[i] for i in design.first_repeat]
    return sum(
        int(np.isin(prompt[split.test], prompt[design.train_sets[split.train_set]]).sum())
        for split in splits
    )


def _most_common(prompt: NDArray[np.intp], y: NDArray[np.intp], n_prompts: int) -> NDArray[Any]:
    """Most common label of each prompt; the lowest of equally common ones."""
    n_classes = int(y.max()) + 1
    pairs, counts = np.unique(prompt * n_classes + y, return_counts=True)
    order = np.lexsort((pairs, -counts, pairs // n_classes))
    prompts, first = np.unique(pairs[order] // n_classes, return_index=True)
    labels = np.full(n_prompts, np.bincount(y).argmax())
    labels[prompts] = pairs[order][first] % n_classes
    return labels


def _means(prompt: NDArray[np.intp], y: Floats, n_prompts: int) -> Floats:
    n, total = np.bincount(prompt, minlength=n_prompts), np.bincount(prompt, y, n_prompts)
    return np.where(n > 0, total / np.maximum(n, 1), y.mean())
