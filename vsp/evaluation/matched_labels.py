"""Labels of other states in the words of a probe's classes: "to the left of" is left_of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.datasets.relations import Relations, normalize

TABLES = ("6way", "whatsup")  # of relations, whose words are read in this order by default


@dataclass(frozen=True, slots=True)
class MatchedLabels:
    """The class of each row, and what has no counterpart."""

    y: NDArray[np.intp]  # [row], index of a class; -1: the label has no class
    renamed: dict[str, str]  # label → class of another name
    without_class: dict[str, int]  # label → its rows


def match_labels(
    classes: Sequence[str], labels: NDArray[np.str_], read_tables: Callable[[], Sequence[Relations]]
) -> MatchedLabels:
    """Match labels [row] to classes by name, then by the words of the relations tables.

    Words that stand for several classes match none of them. Tables are read only if a label has no
    class of its name.
    """
    of_label = {name: index for index, name in enumerate(classes)}
    others = [label for label in dict.fromkeys(labels.tolist()) if label not in of_label]
    if others:
        tables = read_tables()
        by_words: dict[str, int] = {}
        for index, name in enumerate(classes):
            words = _common_words(name, tables)
            by_words[words] = -1 if words in by_words else index
        of_label |= {label: by_words.get(_common_words(label, tables), -1) for label in others}
    y = np.array([of_label[label] for label in labels.tolist()], np.intp)
    counts = Counter(labels.tolist())
    return MatchedLabels(
        y,
        {name: classes[of_label[name]] for name in others if of_label[name] >= 0},
        {name: counts[name] for name in others if of_label[name] < 0},
    )


def _common_words(label: str, tables: Sequence[Relations]) -> str:
    """The label of the first table that has these words, otherwise the words themselves."""
    words = normalize(label)
    return next((found for table in tables if (found := table.label(words))), words)
