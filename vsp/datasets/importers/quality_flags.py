"""Quality flags: problems of a row that the annotations reveal.

A flag alone drops no row. The user chooses the flags that drop rows; by default these are `DROPPED`,
with which a question about two names has no single answer. `flag_rows` finds all flags except those
of images (`image_checks`) and of splits (`row_splits`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite

from vsp.datasets.importers.annotations import Box, Picture, Relation, Thing
from vsp.datasets.relations import INVERSE, ON_AXIS, normalize

# In the order of the filters: a row with several flags counts for the first.
FLAGS = {
    "missing-image": "no file with this name or stem is in the image folders",
    "unreadable-image": "the image cannot be decoded",
    "self-relation": "subject and reference are the same box",
    "equal-names": "subject and reference have the same name",
    "ambiguous-name": "the image has several boxes of the subject's or reference's name",
    "opposite-labels": "the two names, or the prompt, have opposite labels in this image",
    "several-labels": "the two names, or the prompt, have more than one label in this image",
    "both-ways": "the two things have the same label in both orders",
    "duplicate": "an earlier row has the same things and label, or the same prompt and label",
    "shared-image": "the image is also in a later split, val or test",
    "box-contradicts": "the centres of the boxes contradict the label",
    "other-axis-larger": "the centres are further apart on the axis that the label does not name",
    "bad-box": "a box is inverted, empty or not inside the image",
    "other-size": "the source gives another image size",
    "instance-suffix": 'a name ends in a number, as "car 2"; the prompt omits the number',
}
DROPPED = (
    "missing-image",
    "unreadable-image",
    "self-relation",
    "equal-names",
    "ambiguous-name",
    "opposite-labels",
    "several-labels",
    "both-ways",
    "duplicate",
)

_SUFFIX = re.compile(r"\s+\d+$")

_normalize = lru_cache(1 << 16)(normalize)

Question = tuple[str, ...]  # the prompt and its regions, or the two names


def base_name(name: str) -> str:
    """The name without the number of an instance: "car 2" → "car"."""
    return _SUFFIX.sub("", name)


def flag_rows(
    picture: Picture,
    labels: Sequence[str],
    size: tuple[int, int] | None = None,
    image_flags: Collection[str] = (),
) -> list[tuple[str, ...]]:
    """The flags of each relation of a picture, in the order of `FLAGS`.

    `labels` has one label per relation. A relation with the label "" gets no flags and does not
    affect other rows. `size` is width and height of the image file, if known; each row also gets
    the flags in `image_flags`.
    """
    context = _PictureContext(picture, labels, size)
    rows = []
    for relation, label in zip(picture.relations, labels, strict=True):
        flags = {*image_flags, *context.flags(relation, label)} if label else set()
        rows.append(tuple(flag for flag in FLAGS if flag in flags))
    return rows


class _PictureContext:
    """All labelled rows and all things of one picture, which the flags of a row depend on."""

    def __init__(
        self, picture: Picture, labels: Sequence[str], size: tuple[int, int] | None
    ) -> None:
        self._size = size or picture.size
        self._other_size = None not in (size, picture.size) and size != picture.size
        self._things_of_name = _group_by_name(picture.things)
        self._labels_of_question: Mapping[Question, set[str]] = defaultdict(set)
        self._labels_of_pair: Mapping[tuple[Thing, Thing], set[str]] = defaultdict(set)
        self._earlier: set[tuple[object, ...]] = set()
        for relation, label in zip(picture.relations, labels, strict=True):
            if label:
                self._labels_of_question[_question(relation)].add(label)
            if label and relation.subject and relation.reference:
                pair = _normalize_thing(relation.subject), _normalize_thing(relation.reference)
                self._labels_of_pair[pair].add(label)

    def flags(self, relation: Relation, label: str) -> Iterable[str]:
        """Yield the flags of the next row. Call it once per row: it looks for duplicates."""
        if self._other_size:
            yield "other-size"
        yield from self._question_flags(relation, label)
        if relation.subject and relation.reference:
            yield from self._name_flags(relation.subject, relation.reference)
            yield from self._pair_flags(relation.subject, relation.reference, label)

    def _question_flags(self, relation: Relation, label: str) -> Iterable[str]:
        labels = self._labels_of_question[_question(relation)]
        if len(labels) > 1:
            yield "several-labels"
        if any(INVERSE.get(one, one) in labels - {one} for one in labels):
            yield "opposite-labels"
        subject = relation.subject and _normalize_thing(relation.subject)
        reference = relation.reference and _normalize_thing(relation.reference)
        row = (relation.prompt, relation.regions, subject, reference, label)
        if row in self._earlier:
            yield "duplicate"
        self._earlier.add(row)

    def _name_flags(self, subject: Thing, reference: Thing) -> Iterable[str]:
        names = (_normalize_base(subject.name), _normalize_base(reference.name))
        if names[0] == names[1]:
            yield "equal-names"
        if any(len(self._things_of_name[name]) > 1 for name in names):
            yield "ambiguous-name"
        if any(base_name(thing.name) != thing.name for thing in (subject, reference)):
            yield "instance-suffix"

    def _pair_flags(self, subject: Thing, reference: Thing, label: str) -> Iterable[str]:
        pair = (_normalize_thing(subject), _normalize_thing(reference))
        inverse_labels = self._labels_of_pair.get(pair[::-1], ())
        if subject.box and pair[0] == pair[1]:
            yield "self-relation"
        elif INVERSE.get(label, label) != label and label in inverse_labels:
            yield "both-ways"
        if any(thing.box and self._is_bad(thing.box) for thing in (subject, reference)):
            yield "bad-box"
        if subject.box and reference.box and label in ON_AXIS:
            yield from _centre_flags(subject.box, reference.box, label)

    def _is_bad(self, box: Box) -> bool:
        left, top, right, bottom = box
        if not all(map(isfinite, box)) or not (0 <= left < right and 0 <= top < bottom):
            return True
        return self._size is not None and (right > self._size[0] or bottom > self._size[1])


def _centre_flags(subject: Box, reference: Box, label: str) -> Iterable[str]:
    """Flags that compare the centres of two boxes with a label of `ON_AXIS`."""
    axis, subject_first = ON_AXIS[label]
    offsets = [  # twice the distance of the centres along x and y
        reference[i] + reference[i + 2] - subject[i] - subject[i + 2] for i in (0, 1)
    ]
    if (offsets[axis] if subject_first else -offsets[axis]) <= 0:
        yield "box-contradicts"
    if abs(offsets[axis]) < abs(offsets[1 - axis]):
        yield "other-axis-larger"


def _group_by_name(things: Iterable[Thing]) -> Mapping[str, set[Thing]]:
    """The distinct things with each base name.

    A thing without a box is not counted if a thing with a box has exactly the same name: it may be
    the same thing.
    """
    things_of_name: Mapping[str, set[Thing]] = defaultdict(set)
    names_with_box = {_normalize(thing.name) for thing in things if thing.box}
    for thing in things:
        if thing.box:
            things_of_name[_normalize_base(thing.name)].add(Thing("", thing.box))
        elif _normalize(thing.name) not in names_with_box:
            things_of_name[_normalize_base(thing.name)].add(_normalize_thing(thing))
    return things_of_name


def _question(relation: Relation) -> Question:
    """What the prompt asks. Rows of a picture with the same question need the same label."""
    if relation.prompt:
        return (_normalize(relation.prompt), *map(str, relation.regions))
    ends = (relation.subject, relation.reference)
    return tuple(_normalize_base(end.name) for end in ends if end)


def _normalize_thing(thing: Thing) -> Thing:
    """The thing with a normalized name, so that spellings of one name are equal."""
    name = _normalize(thing.name)
    return thing if name == thing.name else Thing(name, thing.box)


@lru_cache(1 << 16)
def _normalize_base(name: str) -> str:
    """The normalized name without the number of an instance."""
    return _normalize(base_name(name))
