"""What a record is about: the prompt forms of its question, and the names that stand in them.

`question` says which of `vsp.prompts.QUESTIONS` it is. Without it a record that has a subject and a
reference is asked where the one is, and one that has `shape_type` and `color_label` for the colour.
Forms and names are of the record's `language` where its things are named by shape and colour, and
English elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsp import prompts
from vsp.datasets import names

PARTS = ("subject", "reference")
_PARTS = {
    "spatial": PARTS,
    "distance": PARTS,
    "size": PARTS,
    "between": (*PARTS, "second"),
    "count": ("subject",),
    "color": ("shape",),
}
Fields = tuple[tuple[str, str], ...]  # of a prompt form, with what stands for them


def of(record: dict[str, Any]) -> tuple[Mapping[str, str], Fields] | None:
    """The prompt forms of the record's question and the fields they need, where it has them."""
    asked = record.get("question")
    known = isinstance(asked, str) and asked in _PARTS
    for question in (str(asked),) if known else ("spatial", "color"):
        looks = {part: _look(record, question, part) for part in _PARTS[question]}
        if all(looks.values()):
            language = _language(record, looks)
            return prompts.forms(question, language), _named(question, looks, language)
        if question != "color" and all(part in record for part in _PARTS[question]):
            fields = tuple((part, str(record[part])) for part in _PARTS[question])
            return prompts.forms(question), fields
    return None


def _look(record: dict[str, Any], question: str, part: str) -> names.Look | None:
    """Kind and colour of a part, where the record has them; "" as a colour that is not named."""
    if question == "color":
        return _texts(record, "shape_type", "color_label", said=1)
    if question == "count":
        return _texts(record, f"{part}_shape", said=1)
    return _texts(record, f"{part}_shape", f"{part}_color", said=2)


def _texts(record: dict[str, Any], *keys: str, said: int) -> names.Look | None:
    """Of the texts under `keys`, if all are there, the first `said`."""
    if not record.keys() >= set(keys):
        return None
    kind, color = (*(str(record[key]) for key in keys[:said]), "")[:2]
    return kind, color


def _language(record: dict[str, Any], looks: Mapping[str, names.Look | None]) -> str:
    language = record.get("language")
    if isinstance(language, str) and all(
        look and names.speaks(language, look) for look in looks.values()
    ):
        return language
    return "en"


def _named(question: str, looks: Mapping[str, names.Look | None], language: str) -> Fields:
    named: list[tuple[str, str]] = []
    for part, look in looks.items():
        assert look is not None
        if question == "count":
            named.append((part, names.counted(look[0], language)))
            continue
        plain, behind = names.phrases(look, language)
        named += [(part, plain)] if language == "en" else [(part, plain), (f"to_{part}", behind)]
    return tuple(named)
