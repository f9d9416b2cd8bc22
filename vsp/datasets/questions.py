"""What a record is about: the prompt forms of its question, and the names that stand in them.

`question` says which of `vsp.datasets.prompts.QUESTIONS` it is. Without it a record that has a subject and a
reference is asked where the one is, and one that has `shape_type` and `color_label` for the colour.
Forms and names are of the record's `language` where its things are named by shape and colour, and
English elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsp.datasets import prompts, translations

PARTS = ("subject", "reference")
OWN = "own"  # the `question` of a record whose prompt asks something else than any form
Keys = dict[str, tuple[str, str]]  # of each part of a question, where its kind and colour stand
Fields = tuple[tuple[str, str], ...]  # of a prompt form, with what stands for them

_TWO: Keys = {part: (f"{part}_shape", f"{part}_color") for part in PARTS}
_KEYS: dict[str, Keys] = {
    "spatial": _TWO,
    "distance": _TWO,
    "size": _TWO,
    "between": {**_TWO, "second": ("second_shape", "second_color")},
    "count": {"subject": ("subject_shape", "")},
    "color": {"shape": ("shape_type", "")},
}
_NEEDED = {
    asked: {key for pair in keys.values() for key in pair} - {""} for asked, keys in _KEYS.items()
}
_NEEDED["color"].add("color_label")


def question_of(record: dict[str, Any]) -> tuple[Mapping[str, str], Fields] | None:
    """The prompt forms of the record's question and the fields they need, where it has them."""
    asked = record.get("question")
    known = isinstance(asked, str) and asked in _KEYS
    for question in (str(asked),) if known else ("spatial", "color"):
        parts = _KEYS[question]
        if record.keys() >= _NEEDED[question]:
            return _by_shape(record, question)
        if question != "color" and record.keys() >= parts.keys():
            fields = tuple((part, str(record[part])) for part in parts)
            return prompts.prompt_forms(question), fields
    return None


def _by_shape(record: dict[str, Any], question: str) -> tuple[Mapping[str, str], Fields]:
    looks = {
        part: (str(record[kind]), str(record[color]) if color else "")
        for part, (kind, color) in _KEYS[question].items()
    }
    language = str(record.get("language", "en"))
    if not all(translations.has_name(language, look) for look in looks.values()):
        language = "en"
    forms = prompts.prompt_forms(question, language)
    if question == "count":
        return forms, tuple(
            (part, translations.plural(kind, language)) for part, (kind, _) in looks.items()
        )
    if language == "en":
        return forms, tuple(
            (part, translations.noun_phrases(look, language)[0]) for part, look in looks.items()
        )
    named = ((part, *translations.noun_phrases(look, language)) for part, look in looks.items())
    return forms, tuple(
        field for part, plain, behind in named for field in ((part, plain), (f"to_{part}", behind))
    )
