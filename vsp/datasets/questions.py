"""The question of a record: its prompt forms, and the names that fill them in.

A record's `question` is a key of `vsp.datasets.prompts.QUESTIONS`. Without this key, a record with
subject and reference gets the spatial question, and one with `shape_type` and `color_label` the
colour question. Forms and names are in the record's `language` if its objects are described by
shape and colour, and in English otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vsp.datasets import prompts, translations

PARTS = ("subject", "reference")
OWN = "own"  # the `question` of a record whose own prompt no form can replace
Fields = tuple[tuple[str, str], ...]  # (field of a prompt form, text for it)
_Keys = dict[str, tuple[str, str]]  # part of a question → record keys of its shape and colour

_TWO_PARTS: _Keys = {part: (f"{part}_shape", f"{part}_color") for part in PARTS}
_KEYS: dict[str, _Keys] = {
    "spatial": _TWO_PARTS,
    "distance": _TWO_PARTS,
    "size": _TWO_PARTS,
    "between": {**_TWO_PARTS, "second": ("second_shape", "second_color")},
    "count": {"subject": ("subject_shape", "")},
    "color": {"shape": ("shape_type", "")},
}
_NEEDED = {
    question: {key for pair in keys.values() for key in pair} - {""}
    for question, keys in _KEYS.items()
}
_NEEDED["color"].add("color_label")


class Question(NamedTuple):
    """A question about a record: its prompt forms and the names in them."""

    forms: Mapping[str, str]  # style → prompt form
    fields: Fields


def question_of(record: dict[str, Any]) -> Question | None:
    """The record's question; None if the record lacks the names that the forms need."""
    own = record.get("question")
    is_known = isinstance(own, str) and own in _KEYS
    for question in (str(own),) if is_known else ("spatial", "color"):
        parts = _KEYS[question]
        if record.keys() >= _NEEDED[question]:
            return _question_by_shape(record, question)
        if question != "color" and record.keys() >= parts.keys():
            fields = tuple((part, str(record[part])) for part in parts)
            return Question(prompts.prompt_forms(question), fields)
    return None


def fields_of(record: dict[str, Any]) -> dict[str, str]:
    """The names in the record's question, by field; empty if the record has no question."""
    question = question_of(record)
    return {} if question is None else dict(question.fields)


def _question_by_shape(record: dict[str, Any], question: str) -> Question:
    """The question of a record whose objects are described by shape and colour."""
    shapes = {
        part: (str(record[kind]), str(record[color]) if color else "")
        for part, (kind, color) in _KEYS[question].items()
    }
    language = str(record.get("language", "en"))
    if not all(translations.has_name(shape, language) for shape in shapes.values()):
        language = "en"
    fields: list[tuple[str, str]] = []
    for part, shape in shapes.items():
        if question == "count":
            fields.append((part, translations.plural(shape[0], language)))
            continue
        name, after_preposition = translations.noun_phrases(shape, language)
        fields.append((part, name))
        if language != "en":
            fields.append((f"to_{part}", after_preposition))
    return Question(prompts.prompt_forms(question, language), tuple(fields))
