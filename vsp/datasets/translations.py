"""Names of coloured shapes in the languages of the prompts."""

from __future__ import annotations

from typing import NamedTuple

KindColor = tuple[str, str]  # kind and colour of a shape; "" if the colour is not named


class _Noun(NamedTuple):
    article: str  # with the space that follows it, if any
    to_article: str  # after the preposition of the prompts: zu, à, a
    noun: str
    plural: str  # as the counting prompts use it
    feminine: bool = False


_NOUNS = {
    "de": {
        "circle": _Noun("der ", "dem ", "Kreis", "Kreise"),
        "square": _Noun("das ", "dem ", "Quadrat", "Quadrate"),
        "triangle": _Noun("das ", "dem ", "Dreieck", "Dreiecke"),
        "pentagon": _Noun("das ", "dem ", "Fünfeck", "Fünfecke"),
        "star": _Noun("der ", "dem ", "Stern", "Sterne"),
    },
    "fr": {
        "circle": _Noun("le ", "au ", "cercle", "de cercles"),
        "square": _Noun("le ", "au ", "carré", "de carrés"),
        "triangle": _Noun("le ", "au ", "triangle", "de triangles"),
        "pentagon": _Noun("le ", "au ", "pentagone", "de pentagones"),
        "star": _Noun("l'", "à l'", "étoile", "d'étoiles", feminine=True),
    },
    "es": {
        "circle": _Noun("el ", "al ", "círculo", "círculos"),
        "square": _Noun("el ", "al ", "cuadrado", "cuadrados"),
        "triangle": _Noun("el ", "al ", "triángulo", "triángulos"),
        "pentagon": _Noun("el ", "al ", "pentágono", "pentágonos"),
        "star": _Noun("la ", "a la ", "estrella", "estrellas", feminine=True),
    },
}
# German adjectives get an ending. French and Spanish colours with two forms list the masculine form
# first, then the feminine form.
_COLORS = {
    "de": {
        "red": "rot", "blue": "blau", "green": "grün", "yellow": "gelb", "purple": "violett",
        "orange": "orangefarben", "pink": "rosafarben", "cyan": "cyanfarben", "brown": "braun",
        "gray": "grau",
    },
    "fr": {
        "red": "rouge", "blue": "bleu bleue", "green": "vert verte", "yellow": "jaune",
        "purple": "violet violette", "orange": "orange", "pink": "rose", "cyan": "cyan",
        "brown": "marron", "gray": "gris grise",
    },
    "es": {
        "red": "rojo roja", "blue": "azul", "green": "verde", "yellow": "amarillo amarilla",
        "purple": "morado morada", "orange": "naranja", "pink": "rosa", "cyan": "cian",
        "brown": "marrón", "gray": "gris",
    },
}  # fmt: skip


def has_name(shape: KindColor, language: str) -> bool:
    """Whether the shape has a name in this language; in English, every shape has one."""
    kind, color = shape
    nouns, colors = _NOUNS.get(language, {}), _COLORS.get(language, {})
    return language == "en" or (kind in nouns and (not color or color in colors))


def plural(kind: str, language: str) -> str:
    """The plural of a kind of shape, as the counting prompts use it."""
    return f"{kind}s" if language == "en" else _NOUNS[language][kind].plural


def noun_phrases(shape: KindColor, language: str) -> tuple[str, str]:
    """The name of a shape with its article, and the same after a preposition."""
    kind, color = shape
    if language == "en":
        name = f"{color} {kind}".strip()
        return name, name
    noun = _NOUNS[language][kind]
    name, dative = (_colored(noun, color, language, ending) for ending in ("e", "en"))
    return noun.article + name, noun.to_article + dative


def _colored(noun: _Noun, color: str, language: str, ending: str) -> str:
    """The noun with its colour; `ending` is that of the German adjective."""
    if not color:
        return noun.noun
    word = _COLORS[language][color]
    if language == "de":
        return f"{word}{ending} {noun.noun}"
    return f"{noun.noun} {word.split()[-1 if noun.feminine else 0]}"
