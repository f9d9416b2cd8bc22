"""`vsp dataset show`: what is in a dataset, for a person to look at before GPU hours are spent."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vsp.datasets import metadata, prompts, questions
from vsp.datasets.contact_sheet import Row
from vsp.datasets.importers.funnel import FUNNEL
from vsp.datasets.provenance import read_card, variants_of
from vsp.errors import DatasetError
from vsp.utils.terminal import fact_table
from vsp.utils.text import format_count

_LABELS = 20  # at most in the table
_NAMED = 3  # missing images at most that are named
_EXAMPLE = 300  # characters of a prompt


@dataclass(slots=True)
class Shown:
    """What a dataset holds, counted."""

    dataset: Path
    card: Any
    variants: tuple[str, ...]
    funnel: bool  # whether an import left a funnel.json
    n_rows: int = 0
    n_named: int = 0  # rows that name what the prompt forms need
    n_prompts: int = 0  # rows with a prompt of their own
    n_regions: int = 0  # rows with a box or a mask for subject and reference
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)  # by label and split
    images: Counter[str] = field(default_factory=Counter)  # rows of each
    groups: set[str] = field(default_factory=set)
    flags: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)  # images, in order of appearance
    prompts: dict[str, str] = field(default_factory=dict)  # style → the first row's
    rows: list[Row] = field(default_factory=list)  # for the sheet

    def add(self, record: dict[str, Any]) -> Row:
        """Count a record. Raises DatasetError for one that cannot be used."""
        row = Row(metadata.id_of(record, self.n_rows), metadata.label_of(record), record)
        self.n_rows += 1
        self.labels[row.label, metadata.split_of(record)] += 1
        self.images[metadata.text_of(record, "image_filename")] += 1
        self.groups.add(metadata.group_of(record))
        self.n_named += questions.of(record) is not None
        self.n_prompts += bool(record.get("prompt"))
        self.n_regions += all(
            {f"{part}_box", f"{part}_mask"} & record.keys() for part in ("subject", "reference")
        )
        flags = record.get("flags", [])
        self.flags.update(map(str, flags if isinstance(flags, list) else [flags]))
        return row


def show(dataset: Path, n: int, seed: int) -> Shown:
    """Count everything, and choose `n` rows for a sheet, labels by turns.

    Raises DatasetError, naming the record, for one that cannot be used.
    """
    shown = Shown(dataset, read_card(dataset), variants_of(dataset), (dataset / FUNNEL).is_file())
    first: dict[str, Any] = {}
    sample = _Sample(n, seed)
    for index, record in enumerate(metadata.records(dataset)):
        try:
            sample.add(shown.add(record))
        except DatasetError as error:
            raise metadata.in_record(dataset, index, error) from None
        first = first or record
    shown.rows = sample.rows()
    images = dataset / "images"
    shown.missing = [name for name in shown.images if not (images / name).is_file()]
    shown.prompts = metadata.examples(dataset, first, _labels(shown))
    return shown


class _Sample:
    """Up to `n` rows of each label at random, the same ones for the same seed."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._n_seen, self._random = n, 0, random.Random(seed)
        # The rows with the lowest numbers stay; the largest of these is on top of the heap.
        self._kept: dict[str, list[tuple[float, int, Row]]] = {}

    def add(self, row: Row) -> None:
        heap = self._kept.setdefault(row.label, [])
        self._n_seen += 1
        heapq.heappush(heap, (-self._random.random(), self._n_seen, row))
        if len(heap) > self._n:
            heapq.heappop(heap)

    def rows(self) -> list[Row]:
        """`n` of all, by label; of each label as many as of the others, where it has them."""
        labels = metadata.ordered(self._kept)
        each = [[row for *_, row in sorted(self._kept[label])[::-1]] for label in labels]
        turns = [row for turn in zip_longest(*each) for row in turn if row is not None]
        return sorted(turns[: self._n], key=lambda row: labels.index(row.label))


def _labels(shown: Shown) -> list[str]:
    return metadata.ordered({label for label, _ in shown.labels})


def _splits(shown: Shown) -> list[str]:
    return [split for split in metadata.SPLITS if any(of == split for _, of in shown.labels)]


def as_json(shown: Shown) -> dict[str, Any]:
    rows = list(shown.images.values())
    return {
        "dataset": str(shown.dataset),
        "card": shown.card,
        "variants": list(shown.variants),
        "rows": shown.n_rows,
        "labels": {
            label: {split: shown.labels[label, split] for split in _splits(shown)}
            for label in _labels(shown)
        },
        "images": len(rows),
        "rows_per_image": {
            "mean": shown.n_rows / len(rows),
            "median": median(rows),
            "max": max(rows),
        },
        "rows_sharing_an_image": sum(n for n in rows if n > 1),
        "groups": len(shown.groups),
        "rows_with_names": shown.n_named,
        "rows_with_prompt": shown.n_prompts,
        "rows_with_regions": shown.n_regions,
        "missing_images": shown.missing,
        "flags": dict(shown.flags.most_common()),
        "prompts": shown.prompts,
    }


def page(shown: Shown) -> RenderableType:
    """All of it, 80 columns wide."""
    parts: list[RenderableType] = [fact_table(_facts(shown)), Text(), _classes(shown), Text()]
    if shown.flags:
        parts += [_flags(shown), Text()]
    parts += [Text("the first row, in each prompt style that works", style="bold")]
    parts += [fact_table(_prompts(shown))]
    return Group(*parts)


def _facts(shown: Shown) -> dict[str, str]:
    rows = list(shown.images.values())
    n_sharing = sum(n for n in rows if n > 1)
    facts = {
        "dataset": str(shown.dataset),
        "made": _made(shown),
        "rows": f"{shown.n_rows:,} in {format_count(len(shown.groups), 'group')}",
        "images": (
            f"{len(rows):,}; rows an image: mean {shown.n_rows / len(rows):.2f}, median "
            f"{median(rows):g}, at most {max(rows):,}; {n_sharing / shown.n_rows:.1%} of rows share "
            "theirs"
        ),
        "missing": _missing(shown),
        "regions": f"{shown.n_regions:,} rows have both as box or mask" if shown.n_regions else "",
        "funnel": "funnel.json says what the import left out" if shown.funnel else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _made(shown: Shown) -> str:
    card = shown.card if isinstance(shown.card, dict) else {}
    if shown.variants:
        return f"{', then '.join(shown.variants)}; of {card.get('of')}"
    known = (f"{key} {card[key]}" for key in ("task", "source", "seed") if key in card)
    return ", ".join(known)


def _missing(shown: Shown) -> str:
    named = ", ".join(shown.missing[:_NAMED]) + (", …" if len(shown.missing) > _NAMED else "")
    n_rows = sum(shown.images[name] for name in shown.missing)
    if not shown.missing:
        return "no image"
    return (
        f"{len(shown.missing):,} of {len(shown.images):,} images, with {n_rows:,} of "
        f"{shown.n_rows:,} rows: {named}"
    )


def _classes(shown: Shown) -> Table:
    """Rows by label and split; of very many labels the commonest."""
    splits, labels = _splits(shown), _labels(shown)
    totals = {label: sum(shown.labels[label, split] for split in splits) for label in labels}
    common = sorted(labels, key=lambda label: -totals[label])[:_LABELS]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label", overflow="fold", max_width=30)
    for name in (*(split or "no split" for split in splits), "all", "share"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, of: Sequence[str], style: str = "") -> None:
        counts = [sum(shown.labels[label, split] for label in of) for split in splits]
        share = f"{sum(counts) / shown.n_rows:.1%}"
        cells = [f"{n:,}" for n in (*counts, sum(counts))]
        table.add_row(Text(name), *cells, share, style=style)

    for label in labels:
        if label in common:
            add(label, [label])
    rest = [label for label in labels if label not in common]
    if rest:
        add(f"{len(rest)} others", rest)
    add("all", labels, "bold")
    return table


def _flags(shown: Shown) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("flag", overflow="fold")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    for flag, n in shown.flags.most_common():
        table.add_row(Text(flag), f"{n:,}", f"{n / shown.n_rows:.1%}")
    return table


def _prompts(shown: Shown) -> dict[str, str]:
    """Of each style the first row's prompt, and how many rows can be asked so, if not all."""
    found = {}
    for style, prompt in shown.prompts.items():
        n = shown.n_prompts if style == prompts.DATASET else shown.n_named
        some = "" if n == shown.n_rows else f"({n:,} of {shown.n_rows:,} rows) "
        cut = prompt if len(prompt) <= _EXAMPLE else f"{prompt[:_EXAMPLE]}…"
        found[style] = some + cut.replace("\n", "⏎ ")
    return found
