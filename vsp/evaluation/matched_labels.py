"""Labels of other states in the words of a probe's classes: "to the left of" is left_of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    without_rows: tuple[str, ...]  # classes that no row has


def match_labels(
    classes: Sequence[str], labels: NDArray[np.str_], tables: Sequence[Relations]
) -> MatchedLabels:
    """Match labels [row] to classes by name, then by the words of the relations tables.

    Words that stand for several classes match none of them.
    """
    by_words: dict[str, int | None] = {}
    for index, name in enumerate(classes):
        words = _common_words(name, tables)
        by_words[words] = None if words in by_words else index
    of_label: dict[str, int] = {}
    for label in dict.fromkeys(labels.tolist()):
        if label in classes:
            of_label[label] = list(classes).index(label)
            continue
        found = by_words.get(_common_words(label, tables))
        of_label[label] = -1 if found is None else found
    y = np.array([of_label[label] for label in labels.tolist()], np.intp)
    counts = Counter(labels.tolist())
    used = set(of_label.values())
    return MatchedLabels(
        y,
        {name: classes[i] for name, i in of_label.items() if i >= 0 and classes[i] != name},
        {name: counts[name] for name, i in of_label.items() if i < 0},
        tuple(name for index, name in enumerate(classes) if index not in used),
    )


def _common_words(label: str, tables: Sequence[Relations]) -> str:
    """The label of the first table that has these words, otherwise the words themselves."""
    words = normalize(label)
    return next((found for table in tables if (found := table.label(words))), words)
