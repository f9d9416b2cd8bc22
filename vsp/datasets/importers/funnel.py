"""Where the rows of a dataset went: into an import, out at each filter, out at its end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsp.errors import DatasetError

FUNNEL = "funnel.json"  # in the dataset's folder
UNMAPPED, INCOMPLETE, BALANCE = "other-relation", "incomplete", "balance"

_SHOWN = 10  # relations that are in no table, in print; the file has all of them
_KINDS = 100_000  # of relations that are told apart, at most
_REST = "(others)"


class Funnel:
    """Counts of rows, of each part of the source by itself. What goes in comes out or is dropped."""

    def __init__(self, labels: Sequence[str], steps: Sequence[str]) -> None:
        """`steps` are those at which rows may be dropped, in their order."""
        self._labels = dict.fromkeys(labels)
        self._steps = tuple(steps)
        self._images: Counter[str] = Counter()
        self._in: Counter[str] = Counter()
        self._dropped: Counter[tuple[str, str, str]] = Counter()  # part, step, label
        self._out: Counter[tuple[str, str, str]] = Counter()  # part, split, label
        self._flags: Counter[tuple[str, str, str]] = Counter()  # part, flag, label
        self._unmapped: Counter[str] = Counter()

    def image(self, part: str, n_rows: int) -> None:
        self._images[part] += 1
        self._in[part] += n_rows

    def drop(self, part: str, step: str, label: str = "") -> None:
        if label:
            self._labels.setdefault(label)
        self._dropped[part, step, label] += 1

    def unmapped(self, part: str, said: str) -> None:
        self.drop(part, UNMAPPED)
        known = said in self._unmapped or len(self._unmapped) < _KINDS
        self._unmapped[said if known else _REST] += 1

    def keep(self, part: str, split: str, label: str, flags: Iterable[str]) -> None:
        self._labels.setdefault(label)
        self._out[part, split, label] += 1
        for flag in flags:
            self._flags[part, flag, label] += 1

    def as_json(self) -> dict[str, Any]:
        """Raises AssertionError if a row went in and neither came out nor was dropped."""
        parts = {part: self._part(part) for part in self._images}
        splits: dict[str, dict[str, int]] = defaultdict(dict)
        for (_, split, label), n in self._out.items():
            splits[split][label] = splits[split].get(label, 0) + n
        return {
            "labels": [label for label in self._labels if label],
            "parts": parts,
            "splits": {split: self._ordered(counts) for split, counts in splits.items()},
            "other_relations": dict(self._unmapped.most_common()),
        }

    def _part(self, part: str) -> dict[str, Any]:
        dropped = [
            {"why": step, **self._counts(self._dropped, part, step)}
            for step in dict.fromkeys((*self._steps, *self._steps_of(part)))
        ]
        out = self._of(self._out, part)
        n_out = sum(out.values())
        n_dropped = sum(one["rows"] for one in dropped)
        assert self._in[part] == n_dropped + n_out, (part, self._in[part], n_dropped, n_out)
        return {
            "images": self._images[part],
            "rows": self._in[part],
            "dropped": dropped,
            "out": {"rows": n_out, "labels": self._ordered(out)},
            "flags": {
                flag: self._counts(self._flags, part, flag)
                for flag in dict.fromkeys(flag for of, flag, _ in sorted(self._flags) if of == part)
            },
        }

    def _steps_of(self, part: str) -> list[str]:
        return [step for of, step, _ in self._dropped if of == part]

    def _counts(
        self, counter: Counter[tuple[str, str, str]], part: str, key: str
    ) -> dict[str, Any]:
        of_label = {label: counter[part, key, label] for label in ("", *self._labels)}
        return {"rows": sum(of_label.values()), "labels": self._ordered(of_label)}

    def _of(self, counter: Counter[tuple[str, str, str]], part: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for (of, _, label), n in counter.items():
            if of == part:
                found[label] += n
        return found

    def _ordered(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {label: counts[label] for label in self._labels if counts.get(label)}


def read_funnel(folder: Path) -> dict[str, Any]:
    """Raises DatasetError if it is not there or not as it was written."""
    try:
        value: dict[str, Any] = json.loads((folder / FUNNEL).read_bytes())
        return {key: value[key] for key in ("labels", "parts", "splits", "other_relations")}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        raise DatasetError(
            f"{folder / FUNNEL}: is lost or damaged; remove {folder} and import it again"
        ) from None


def others(counts: Mapping[str, int]) -> str:
    """The commonest relations that are in no table."""
    first = [f"{said or '(none)'} {n:,}" for said, n in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(first)
    rest = f", and {more:,} more in funnel.json" if more > 0 else ""
    return f"other relations: {', '.join(first)}{rest}"
