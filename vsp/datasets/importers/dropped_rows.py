"""`dropped.csv`: one line for each row that an import drops, with its place and the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from vsp.datasets.importers.annotations import Relation
from vsp.datasets.importers.funnel import (
    BALANCE,
    DROPPED_LABEL,
    INCOMPLETE,
    UNMAPPED,
    UNUSABLE,
)
from vsp.datasets.importers.quality_flags import FLAGS
from vsp.datasets.relations import Relations, normalize
from vsp.utils.csv_lines import csv_line
from vsp.utils.files import write_aside
from vsp.utils.spelling import misspelt
from vsp.utils.text import format_count

DROPPED_ROWS = "dropped.csv"  # in the dataset's folder

_HEADER = ("file", "place", "id", "image", "label", "reason", "explanation")
_N_NOTES, _N_PLACES, _N_EXAMPLES = 10, 5, 3
_REASONS = {
    **FLAGS,
    **UNUSABLE,
    INCOMPLETE: "a name, the prompt, the relation or the label is missing",
    DROPPED_LABEL: "its label is left out with --drop-label",
    BALANCE: "its split has more rows of this label than of its rarest label",
}


class DroppedRows:
    """Writes the lines as rows are dropped. Memory holds counts and a few examples only."""

    def __init__(self, file: IO[bytes], relations: Relations) -> None:
        self._file, self._relations = file, relations
        self._meant = lru_cache(1 << 16)(lambda words: misspelt(words, relations.label_of))
        self._n_misspelt: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}  # of misspelt relations
        self._examples: dict[str, list[str]] = {}  # by reason
        file.write(csv_line(*_HEADER))

    def add(
        self,
        place: tuple[str, str],
        row_id: str,
        image: str,
        label: str,
        reason: str,
        explanation: str = "",
    ) -> None:
        """Write a dropped row; `place` is its file and its place in that file."""
        explanation = explanation or _REASONS[reason]
        self._file.write(csv_line(*place, row_id, image, label, reason, explanation))
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _N_EXAMPLES:
            examples.append(f"{place[0]}: {place[1]}, image {image!r}: {explanation}")

    def add_unmapped(self, relation: Relation, row_id: str, image: str) -> None:
        """Write a row whose relation has no label."""
        words = normalize(relation.predicate)
        meant = self._meant(words)
        explanation = (
            f"relation {relation.predicate!r} is not in the relations {self._relations.name}"
        )
        if meant:
            explanation += f"; write {meant!r}, or map it with --relations"
            self._n_misspelt[words] += 1
            places = self._places.setdefault(words, [])
            if len(places) < _N_PLACES:
                places.append(f"{Path(relation.file).name} {relation.where}")
        place = (relation.file, relation.where)
        self.add(place, row_id, image, "", UNMAPPED, explanation)

    def notes(self) -> list[str]:
        """A note for each misspelt relation, the most frequent first."""
        notes = [
            f"relation {words!r} of {format_count(n, 'row')} is not in the relations "
            f"{self._relations.name} ({_listed(self._places[words], n)}): write "
            f"{self._meant(words)!r}, or map it with --relations FILE.yaml"
            for words, n in self._n_misspelt.most_common(_N_NOTES)
        ]
        n_more = len(self._n_misspelt) - len(notes)
        if n_more > 0:
            notes.append(
                f"{format_count(n_more, 'relation')} more that may be misspelt; see {DROPPED_ROWS}"
            )
        return notes

    def examples(self) -> list[str]:
        """The first dropped rows of each reason, for an error."""
        return [example for examples in self._examples.values() for example in examples]


@contextmanager
def dropped_rows(folder: Path, relations: Relations) -> Iterator[DroppedRows]:
    """Open `dropped.csv` of a dataset folder; it is there when the block has succeeded."""
    with write_aside(folder / DROPPED_ROWS) as file:
        yield DroppedRows(file, relations)


def _listed(places: Sequence[str], n: int) -> str:
    more = n - len(places)
    return ", ".join(places) + (f" and {more:,} more" if more else "")
