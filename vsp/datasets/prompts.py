"""Prompt forms: templates for the question of a sample, one for each question, style and language.

The style is chosen when a run is planned, and is part of the run's identity. The fields
`{subject}`, `{reference}`, `{second}` and `{shape}` come from the record, and `{labels}` from all
labels of the dataset. In German, French and Spanish, names have their article, and `{to_reference}`
is the name after a preposition: „dem roten Kreis“, « au cercle rouge », «al círculo rojo».
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from string import Formatter
from typing import Literal, NamedTuple

from vsp.errors import ConfigError

DATASET = "dataset"  # the style that uses the record's own prompt

# `prompt_template_index` counts the first three forms, in this order.
SPATIAL = {
    "statement": "The spatial relationship of {subject} to {reference} is",
    "cloze": "Considering the image, the {subject} is positioned ___ the {reference}. The answer is",
    "question": "Where is the {subject} relative to the {reference}? The {subject} is",
    "instruction": (
        "Determine the spatial relationship of '{subject}' relative to '{reference}'.\n"
        "Choose ONE label from:\n[{labels}]\nRespond with ONLY the label. No explanation."
    ),
}
COLOR = {
    "statement": "The color of the {shape} is",
    "cloze": "Considering the image, the color of the {shape} is ___. The answer is",
    "question": "What color is the {shape}? The {shape} is",
    "instruction": (
        "Determine the color of the '{shape}'.\n"
        "Choose ONE label from:\n[{labels}]\nRespond with ONLY the label. No explanation."
    ),
}
_CHOOSE = "Choose ONE label from:\n[{labels}]\nRespond with ONLY the label. No explanation."
DISTANCE = {
    "statement": "Seen from the {reference}, the {subject} is",
    "cloze": "Considering the image, the {subject} is ___ the {reference}. The answer is",
    "question": "Is the {subject} near the {reference} or far from it? The {subject} is",
    "instruction": f"Determine whether '{{subject}}' is near or far from '{{reference}}'.\n{_CHOOSE}",
}
BETWEEN = {
    "statement": (
        "Asked whether {subject} is between {reference} and {second}, the correct answer is"
    ),
    "cloze": (
        "Considering the image, is the {subject} between the {reference} and the {second}? ___. "
        "The answer is"
    ),
    "question": "Is the {subject} between the {reference} and the {second}? The answer is",
    "instruction": (
        f"Determine whether '{{subject}}' is between '{{reference}}' and '{{second}}'.\n{_CHOOSE}"
    ),
}
SIZE = {
    "statement": "Compared with the {reference}, the {subject} is",
    "cloze": "Considering the image, the {subject} is ___ than the {reference}. The answer is",
    "question": "Is the {subject} larger or smaller than the {reference}? The {subject} is",
    "instruction": (f"Determine the size of '{{subject}}' relative to '{{reference}}'.\n{_CHOOSE}"),
}
COUNT = {
    "statement": "The number of {subject} in the image is",
    "cloze": "Considering the image, the number of {subject} is ___. The answer is",
    "question": "How many {subject} are in the image? The number of {subject} is",
    "instruction": f"Determine the number of {{subject}} in the image.\n{_CHOOSE}",
}
# The values that a record's `question` can have, besides "own".
QUESTIONS = {
    "spatial": SPATIAL,
    "color": COLOR,
    "distance": DISTANCE,
    "between": BETWEEN,
    "size": SIZE,
    "count": COUNT,
}
Language = Literal["en", "de", "fr", "es"]


class _Translation(NamedTuple):
    """The sentences from which the forms of a language are made. Labels stay English."""

    answer: str
    choose: str
    sentences: Mapping[str, tuple[str, str]]  # question → (statement, question)


_TRANSLATIONS = {
    "de": _Translation(
        "Antwort:",
        "Wähle EIN Label aus:\n[{labels}]\nAntworte NUR mit dem Label. Keine Erklärung.",
        {
            "spatial": (
                "Die Lage von {to_subject} relativ zu {to_reference} ist",
                "Wo ist {subject} relativ zu {to_reference}?",
            ),
            "color": ("Die Farbe von {to_shape} ist", "Welche Farbe hat {shape}?"),
            "distance": (
                "Von {to_reference} aus gesehen ist {subject}",
                "Ist {subject} nah an {to_reference} oder weit davon entfernt?",
            ),
            "between": (
                "Die Antwort auf die Frage, ob {subject} zwischen {to_reference} und {to_second} "
                "liegt, ist",
                "Liegt {subject} zwischen {to_reference} und {to_second}?",
            ),
            "size": (
                "Im Vergleich zu {to_reference} ist {subject}",
                "Ist {subject} größer oder kleiner als {reference}?",
            ),
            "count": ("Die Anzahl der {subject} im Bild ist", "Wie viele {subject} sind im Bild?"),
        },
    ),
    "fr": _Translation(
        "Réponse :",
        "Choisissez UNE étiquette parmi :\n[{labels}]\n"
        "Répondez UNIQUEMENT par l'étiquette. Aucune explication.",
        {
            "spatial": (
                "Par rapport {to_reference}, {subject} se trouve",
                "Où se trouve {subject} par rapport {to_reference} ?",
            ),
            "color": ("Dans l'image, {shape} est de couleur", "De quelle couleur est {shape} ?"),
            "distance": (
                "Par rapport {to_reference}, {subject} est",
                "Par rapport {to_reference}, est-ce que {subject} est près ou loin ?",
            ),
            "between": (
                "À la question de savoir si {subject} est entre {reference} et {second}, "
                "la réponse est",
                "Est-ce que {subject} est entre {reference} et {second} ?",
            ),
            "size": (
                "Par rapport {to_reference}, {subject} a une taille",
                "Est-ce que {subject} a une taille plus grande ou plus petite que {reference} ?",
            ),
            "count": (
                "Le nombre {subject} dans l'image est",
                "Combien y a-t-il {subject} dans l'image ?",
            ),
        },
    ),
    "es": _Translation(
        "Respuesta:",
        "Elige UNA etiqueta de esta lista:\n[{labels}]\n"
        "Responde SOLO con la etiqueta. Sin explicación.",
        {
            "spatial": (
                "Con respecto {to_reference}, {subject} está",
                "¿Dónde está {subject} con respecto {to_reference}?",
            ),
            "color": ("En la imagen, el color que tiene {shape} es", "¿De qué color es {shape}?"),
            "distance": (
                "Si se mira desde {reference}, {subject} está",
                "¿Está cerca o lejos {subject} con respecto {to_reference}?",
            ),
            "between": (
                "A la pregunta de si {subject} está entre {reference} y {second}, la respuesta es",
                "¿Está {subject} entre {reference} y {second}?",
            ),
            "size": (
                "En comparación con {reference}, el tamaño que tiene {subject} es",
                "¿Tiene {subject} un tamaño mayor o menor que {reference}?",
            ),
            "count": (
                "El número de {subject} en la imagen es",
                "¿Cuál es el número de {subject} en la imagen?",
            ),
        },
    ),
}
STYLES = (*SPATIAL, DATASET)


@cache
def prompt_forms(question: str, language: str = "en") -> Mapping[str, str]:
    """The forms of a question: style → form."""
    if language == "en":
        return QUESTIONS[question]
    answer, choose, sentences = _TRANSLATIONS[language]
    statement, sentence = sentences[question]
    return {
        "statement": statement,
        "cloze": f"{statement} ___. {answer}",
        "question": f"{sentence} {answer}",
        "instruction": f"{sentence}\n{choose}",
    }


def numbered_form(forms: Mapping[str, str], index: int) -> str:
    """The form that `prompt_template_index` chooses: 0 statement, 1 cloze, 2 question."""
    return forms[list(forms)[index]]


def label_words(label: str) -> str:
    """A label as words of a prompt: `left_of` → `left of`."""
    return label.replace("_", " ")


def render(template: str, fields: Mapping[str, str], labels: Sequence[str] = ()) -> str:
    """Fill a template. Raises ConfigError if `fields` lacks a field of the template."""
    try:
        return template.format(**fields, labels=_join_labels(tuple(labels)))
    except KeyError as missing:
        raise ConfigError(
            f"prompt {template!r} needs {missing}; the dataset gives {', '.join(fields) or 'none'}"
        ) from None


def field_spans(
    template: str, fields: Mapping[str, str], labels: Sequence[str] = ()
) -> dict[str, tuple[int, int]]:
    """Of each field, where its last occurrence begins and ends in the text of `render`."""
    values = {**fields, "labels": _join_labels(tuple(labels))}
    spans, at = {}, 0
    for literal, name, _, _ in Formatter().parse(template):
        at += len(literal)
        if name is not None:
            spans[name] = (at, at + len(values[name]))
            at = spans[name][1]
    return spans


@lru_cache(16)
def _join_labels(labels: tuple[str, ...]) -> str:
    return ", ".join(map(label_words, labels))
