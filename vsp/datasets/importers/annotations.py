"""What real datasets say of their pictures: things in boxes, and relations between them.

An importer is a generator function: files → `Picture`s, each with everything that is annotated in
it. It reads what is written and judges nothing: names are as in the file but for white space at
their ends, boxes may be wrong, relations are in the source's own words. What becomes of them is
the business of `vsp.datasets.importers.pipeline`, the same for all sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# How sources call their splits.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "test": "test",
}

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, y down


@dataclass(frozen=True, slots=True)
class Thing:
    """An annotated object. Two that are equal are the same object, as far as the source tells."""

    name: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A row to be: what is said of `subject` relative to `reference`.

    A source that brings its own question has `prompt` and `label` instead of a predicate.
    """

    subject: Thing | None
    predicate: str  # as the source writes it; "" where `label` says it
    reference: Thing | None
    id: str = ""  # the source's own; "" where it has none
    prompt: str = ""
    label: str = ""
    where: str = ""  # in the source, for messages: "record 12", "line 7"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image and all that a source says of it. No image is in two pictures of one split."""

    image: str  # file name as the source writes it
    things: tuple[Thing, ...]  # all that are annotated, each once, also those in no relation
    relations: tuple[Relation, ...]  # in the source's order
    split: str = ""  # train, val, test or ""
    size: tuple[int, int] | None = None  # width and height, where the source says
    group: str = ""  # "": the image


Read = Callable[[Sequence[tuple[str, Path]], Mapping[str, str]], Iterator[Picture]]


@dataclass(frozen=True, slots=True)
class Importer:
    """How a source is read: `read(files, options)`, files being (split or "", path) in order.

    It raises DatasetError, with file and place, for what the source's layout does not allow.
    """

    read: Read
    relations: str = "6way"  # preset, where none is asked for
    options: tuple[str, ...] = ()  # names that `options` may have
