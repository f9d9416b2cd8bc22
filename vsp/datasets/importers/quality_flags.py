"""What is wrong with a row, as far as annotations allow to tell: flags on every row.

A flag judges nothing by itself: which of them drop a row is chosen when a dataset is imported, and
`DROPPED` are those that leave a question about names without one answer. Those of images and of
splits are found by `vsp.datasets.importers.pipeline`, the others by `flag_rows`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isfinite

from vsp.datasets.importers.annotations import Box, Picture, Relation, Thing
from vsp.datasets.relations import INVERSE

# In the order in which rows are dropped, so that a row with several counts for the first.
FLAGS = {
    "missing-image": "no file of that name, nor of that stem, in the image folders",
    "unreadable-image": "the image cannot be decoded",
    "self-relation": "subject and reference are the same box",
    "equal-names": "subject and reference have the same name",
    "ambiguous-name": "the image has several boxes of the subject's or reference's name",
    "opposite-labels": "the two names, or the prompt, have opposite labels in this image",
    "several-labels": "the two names, or the prompt, have more than one label in this image",
    "both-ways": "the two things have the same label in both orders",
    "duplicate": "an earlier row says the same of the same two things",
    "shared-image": "the image is in a later split, val or test, too",
    "box-contradicts": "the centres of the boxes lie the other way",
    "other-axis-larger": "the centres are further apart on the other axis",
    "bad-box": "a box is inverted, empty or reaches over the image's edge",
    "other-size": "the image is not of the size that the source says",
    "instance-suffix": 'a name ends in a number, as "car 2"; it is left out of the prompt',
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
# Axis of the centres (0: x, 1: y) and whether the subject comes first on it, y down.
_ON_AXIS = {"left_of": (0, True), "right_of": (0, False), "above": (1, True), "below": (1, False)}

Question = tuple[str, ...]  # a prompt, or two names


def base_name(name: str) -> str:
    """Without the number that tells instances apart: "car 2" → "car"."""
    return _SUFFIX.sub("", name)


def flag_rows(
    picture: Picture,
    labels: Sequence[str],
    size: tuple[int, int] | None = None,
    known: Collection[str] = (),
) -> list[tuple[str, ...]]:
    """Flags of each relation of a picture, in the order of `FLAGS`.

    `labels` has one for each relation, "" for those that are not asked about: they have no flags,
    and take no part in those of others. `size` is that of the image's file, where that is known;
    `known` are flags of the whole picture.
    """
    facts = _Facts(picture, labels, size)
    flags = []
    for relation, label in zip(picture.relations, labels, strict=True):
        found = {*known, *facts.flags(relation, label)} if label else set()
        flags.append(tuple(flag for flag in FLAGS if flag in found))
    return flags


class _Facts:
    """What the rows of one picture say together."""

    def __init__(
        self, picture: Picture, labels: Sequence[str], size: tuple[int, int] | None
    ) -> None:
        self._size = size or picture.size
        self._other_size = None not in (size, picture.size) and size != picture.size
        self._of_name = _things_of_name(picture.things)
        self._answers: Mapping[Question, set[str]] = defaultdict(set)
        self._of_things: Mapping[tuple[Thing, Thing], set[str]] = defaultdict(set)
        self._said: set[tuple[str, Thing | None, Thing | None, str]] = set()
        for relation, label in zip(picture.relations, labels, strict=True):
            if label:
                self._answers[_question(relation)].add(label)
            if label and relation.subject and relation.reference:
                self._of_things[_same(relation.subject), _same(relation.reference)].add(label)

    def flags(self, relation: Relation, label: str) -> Iterable[str]:
        if self._other_size:
            yield "other-size"
        yield from self._of_question(relation, label)
        if relation.subject and relation.reference:
            yield from self._of_ends(relation.subject, relation.reference, label)

    def _of_question(self, relation: Relation, label: str) -> Iterable[str]:
        answers = self._answers[_question(relation)]
        if len(answers) > 1:
            yield "several-labels"
        if any(INVERSE.get(one, one) in answers - {one} for one in answers):
            yield "opposite-labels"
        ends = (relation.subject and _same(relation.subject),
                relation.reference and _same(relation.reference))  # fmt: skip
        said = (relation.prompt, *ends, label)
        if said in self._said:
            yield "duplicate"
        self._said.add(said)

    def _of_ends(self, subject: Thing, reference: Thing, label: str) -> Iterable[str]:
        yield from self._of_pair(subject, reference, label)
        names = (_key(subject.name), _key(reference.name))
        if names[0] == names[1]:
            yield "equal-names"
        if any(len(self._of_name[name]) > 1 for name in names):
            yield "ambiguous-name"
        if any(base_name(thing.name) != thing.name for thing in (subject, reference)):
            yield "instance-suffix"
        if any(thing.box and self._is_bad(thing.box) for thing in (subject, reference)):
            yield "bad-box"

    def _of_pair(self, subject: Thing, reference: Thing, label: str) -> Iterable[str]:
        pair = (_same(subject), _same(reference))
        if subject.box and pair[0] == pair[1]:
            yield "self-relation"
        elif INVERSE.get(label, label) != label and label in self._of_things.get(pair[::-1], ()):
            yield "both-ways"
        if subject.box and reference.box and label in _ON_AXIS:
            yield from _of_boxes(subject.box, reference.box, label)

    def _is_bad(self, box: Box) -> bool:
        left, top, right, bottom = box
        if not all(map(isfinite, box)) or not (0 <= left < right and 0 <= top < bottom):
            return True
        return self._size is not None and (right > self._size[0] or bottom > self._size[1])


def _of_boxes(subject: Box, reference: Box, label: str) -> Iterable[str]:
    axis, subject_first = _ON_AXIS[label]
    offsets = [
        reference[i] + reference[i + 2] - subject[i] - subject[i + 2]  # twice that of the centres
        for i in (0, 1)
    ]
    if (offsets[axis] if subject_first else -offsets[axis]) <= 0:
        yield "box-contradicts"
    if abs(offsets[axis]) < abs(offsets[1 - axis]):
        yield "other-axis-larger"


def _things_of_name(things: Iterable[Thing]) -> Mapping[str, set[Thing]]:
    """What bears each name. One without a box may be one of that very name that has a box."""
    found: Mapping[str, set[Thing]] = defaultdict(set)
    boxed = {_whole(thing.name) for thing in things if thing.box}
    for thing in things:
        if thing.box:
            found[_key(thing.name)].add(Thing("", thing.box))
        elif _whole(thing.name) not in boxed:
            found[_key(thing.name)].add(_same(thing))
    return found


def _question(relation: Relation) -> Question:
    """What is asked of the picture: rows with the same have to have one label."""
    if relation.prompt:
        return (_whole(relation.prompt),)
    return tuple(_key(end.name) for end in (relation.subject, relation.reference) if end)


def _same(thing: Thing) -> Thing:
    """Equal for things that are one, however their name is spelled."""
    name = _whole(thing.name)
    return thing if name == thing.name else Thing(name, thing.box)


@lru_cache(1 << 16)
def _whole(name: str) -> str:
    return " ".join(name.lower().split())


@lru_cache(1 << 16)
def _key(name: str) -> str:
    """The same for names that a reader would not tell apart."""
    return _whole(base_name(name))
