"""Count the rows of an import: rows of the source, rows that each filter drops, and rows kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.errors import DatasetError
from vsp.utils.reading import read_json

FUNNEL = "funnel.json"  # in the dataset's folder
UNMAPPED, INCOMPLETE = "other-relation", "incomplete"
DROPPED_LABEL, BALANCE = "dropped-label", "balance"
SEVERAL_IMAGES, UNCLEAR_OPTIONS = "several-images", "unclear-options"
NO_SUCH_OPTION = "no-such-option"
OTHER_ANSWER, NO_PLAIN_ANSWER = "other-answer", "no-plain-answer"
BETWEEN = "between-labels"
# Why a row of a source cannot be used: the values of `Relation.unusable`.
UNUSABLE = {
    SEVERAL_IMAGES: "the question is about several images; a row has one",
    UNCLEAR_OPTIONS: "two options are equal, or there are fewer than two",
    NO_SUCH_OPTION: "the answer is none of the options",
    OTHER_ANSWER: "the answer is a quantity; with answer=quantitative, it is none",
    NO_PLAIN_ANSWER: "the answer is not yes, no, one region, one length with its unit or an hour",
    BETWEEN: "the direction lies halfway between two labels",
}

_N_LISTED = 10  # other relations that are listed in a text; funnel.json has all
_MAX_RELATIONS = 100_000  # other relations that are counted separately
_REST = "(others)"


class Funnel:
    """Counts of rows, separately for each part of the source. Every row is kept or dropped."""

    def __init__(self, labels: Sequence[str], steps: Sequence[str]) -> None:
        """`steps` are the filters that may drop rows, in order."""
        self._labels = dict.fromkeys(labels)
        self._steps = tuple(steps)
        self._n_images: Counter[str] = Counter()
        self._n_rows: Counter[str] = Counter()
        self._dropped: Counter[tuple[str, str, str]] = Counter()  # part, step, label
        self._kept: Counter[tuple[str, str, str]] = Counter()  # part, split, label
        self._flags: Counter[tuple[str, str, str]] = Counter()  # part, flag, label
        self._other_relations: Counter[str] = Counter()

    def add_image(self, part: str, n_rows: int) -> None:
        """Count an image and its rows."""
        self._n_images[part] += 1
        self._n_rows[part] += n_rows

    def drop(self, part: str, step: str, label: str = "") -> None:
        """Count a row that a filter drops."""
        if label:
            self._labels.setdefault(label)
        self._dropped[part, step, label] += 1

    def drop_unmapped(self, part: str, words: str) -> None:
        """Count a row whose relation has no label."""
        self.drop(part, UNMAPPED)
        counts = self._other_relations
        separate = words in counts or len(counts) < _MAX_RELATIONS
        counts[words if separate else _REST] += 1

    def dropped_labels(self, step: str) -> list[str]:
        """The labels of the rows that a filter has dropped."""
        return list(dict.fromkeys(label for _, one, label in self._dropped if one == step))

    def keep(self, part: str, split: str, label: str, flags: Iterable[str]) -> None:
        """Count a row of the dataset."""
        self._labels.setdefault(label)
        self._kept[part, split, label] += 1
        for flag in flags:
            self._flags[part, flag, label] += 1

    def as_json(self) -> dict[str, Any]:
        """The contents of `funnel.json`.

        Raises AssertionError if the kept and dropped rows of a part do not add up to its rows.
        """
        splits: dict[str, dict[str, int]] = defaultdict(dict)
        for (_, split, label), n in self._kept.items():
            splits[split][label] = splits[split].get(label, 0) + n
        return {
            "labels": [label for label in self._labels if label],
            "parts": {part: self._part(part) for part in self._n_images},
            "splits": {split: self._in_label_order(counts) for split, counts in splits.items()},
            "other_relations": dict(self._other_relations.most_common()),
        }

    def _part(self, part: str) -> dict[str, Any]:
        further_steps = [step for of, step, _ in self._dropped if of == part]
        dropped = [
            {"why": step, **self._by_label(self._dropped, part, step)}
            for step in dict.fromkeys((*self._steps, *further_steps))
        ]
        kept: Counter[str] = Counter()
        for (of, _, label), n in self._kept.items():
            if of == part:
                kept[label] += n
        n_rows, n_kept = self._n_rows[part], sum(kept.values())
        n_dropped = sum(step["rows"] for step in dropped)
        assert n_rows == n_dropped + n_kept, (part, n_rows, n_dropped, n_kept)
        flags = dict.fromkeys(flag for of, flag, _ in sorted(self._flags) if of == part)
        return {
            "images": self._n_images[part],
            "rows": n_rows,
            "dropped": dropped,
            "out": {"rows": n_kept, "labels": self._in_label_order(kept)},
            "flags": {flag: self._by_label(self._flags, part, flag) for flag in flags},
        }

    def _by_label(
        self, counter: Counter[tuple[str, str, str]], part: str, key: str
    ) -> dict[str, Any]:
        counts = {label: counter[part, key, label] for label in ("", *self._labels)}
        return {"rows": sum(counts.values()), "labels": self._in_label_order(counts)}

    def _in_label_order(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {label: counts[label] for label in self._labels if counts.get(label)}


def read_funnel(folder: Path) -> dict[str, Any]:
    """Read the funnel of a dataset folder. Raises DatasetError if it is missing or damaged."""
    try:
        value: dict[str, Any] = read_json(folder / FUNNEL)
        return {key: value[key] for key in ("labels", "parts", "splits", "other_relations")}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        raise DatasetError(
            f"{folder / FUNNEL}: missing or damaged; remove {folder} and import it again"
        ) from None


def format_other_relations(counts: Mapping[str, int]) -> str:
    """The most frequent relations without a label."""
    listed = [f"{words or '(none)'} {n:,}" for words, n in list(counts.items())[:_N_LISTED]]
    n_more = len(counts) - len(listed)
    more = f", and {n_more:,} more in funnel.json" if n_more > 0 else ""
    return f"other relations: {', '.join(listed)}{more}"
