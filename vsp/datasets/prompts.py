"""The forms in which a row's question can be put to a model.

A form is chosen when a run is planned and is part of its identity. `{subject}`, `{reference}`,
`{second}`, `{shape}` come from the dataset's record, `{labels}` from the dataset's labels.
In German, French and Spanish names have their articles, and `{to_reference}` is the name as it
stands behind a preposition: „dem roten Kreis“, « au cercle rouge », «al círculo rojo».
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from vsp.errors import ConfigError

DATASET = "dataset"  # the prompt that the record itself carries

# The first three, in this order, are the statement templates that `prompt_template_index` counts.
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
# By what a record's `question` may name.
QUESTIONS = {
    "spatial": SPATIAL,
    "color": COLOR,
    "distance": DISTANCE,
    "between": BETWEEN,
    "size": SIZE,
    "count": COUNT,
}
Language = Literal["en", "de", "fr", "es"]


class _Tongue(NamedTuple):
    """What the forms in a language are put together from. Labels stay English words."""

    answer: str
    choose: str
    sentences: Mapping[str, tuple[str, str]]  # for each question, the statement and the question


_TONGUES = {
    "de": _Tongue(
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
    "fr": _Tongue(
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
    "es": _Tongue(
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
    """The forms of a question, by style."""
    if language == "en":
        return QUESTIONS[question]
    answer, choose, sentences = _TONGUES[language]
    state, ask = sentences[question]
    return {
        "statement": state,
        "cloze": f"{state} ___. {answer}",
        "question": f"{ask} {answer}",
        "instruction": f"{ask}\n{choose}",
    }


def numbered_form(forms: Mapping[str, str], index: int) -> str:
    """The template that `prompt_template_index` names."""
    return forms[list(forms)[index]]


def label_words(label: str) -> str:
    """A label as it stands in a prompt: `left_of` → `left of`."""
    return label.replace("_", " ")


def render(template: str, fields: Mapping[str, str], labels: Sequence[str] = ()) -> str:
    """Fill a template. Raises ConfigError if the template needs a field that is not there."""
    try:
        return template.format(**fields, labels=_listed(tuple(labels)))
    except KeyError as missing:
        raise ConfigError(
            f"prompt {template!r} needs {missing}; the dataset gives {', '.join(fields) or 'none'}"
        ) from None


@lru_cache(16)
def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(map(label_words, labels))
