from typing import get_args

import pytest

from vsp.datasets import prompts, questions
from vsp.errors import ConfigError

FIELDS = {"subject": "red circle", "reference": "blue square"}


def test_the_statement_templates_keep_their_order():
    filled = [prompts.render(prompts.numbered_form(prompts.SPATIAL, i), FIELDS) for i in range(3)]
    assert filled == [
        "The spatial relationship of red circle to blue square is",
        "Considering the image, the red circle is positioned ___ the blue square. The answer is",
        "Where is the red circle relative to the blue square? The red circle is",
    ]


def test_the_instruction_lists_the_labels_in_words():
    labels = ["left_of", "right_of", "above", "below"]
    assert prompts.render(prompts.SPATIAL["instruction"], FIELDS, labels) == (
        "Determine the spatial relationship of 'red circle' relative to 'blue square'.\n"
        "Choose ONE label from:\n[left of, right of, above, below]\n"
        "Respond with ONLY the label. No explanation."
    )


def test_a_missing_field_is_named():
    with pytest.raises(ConfigError, match="needs 'reference'; the dataset gives subject"):
        prompts.render(prompts.SPATIAL["statement"], {"subject": "a"})


@pytest.mark.parametrize("question", prompts.QUESTIONS)
def test_all_questions_have_the_same_styles_in_every_language(question):
    for language in get_args(prompts.Language):
        assert list(prompts.prompt_forms(question, language)) == list(prompts.SPATIAL)
    assert len(prompts.SPATIAL) - 1 == 3  # `prompt_template_index` is 0, 1 or 2


TWO = {
    "subject_shape": "star", "subject_color": "green", "reference_shape": "circle",
    "reference_color": "red",
}  # fmt: skip
THREE = {**TWO, "second_shape": "square", "second_color": "pink", "question": "between"}


@pytest.mark.parametrize(
    ("record", "language", "style", "prompt"),
    [
        (TWO, "en", "question", "Where is the green star relative to the red circle? The green star is"),
        (TWO, "de", "question", "Wo ist der grüne Stern relativ zu dem roten Kreis? Antwort:"),
        (TWO, "fr", "question", "Où se trouve l'étoile verte par rapport au cercle rouge ? Réponse :"),
        (TWO, "es", "question", "¿Dónde está la estrella verde con respecto al círculo rojo? Respuesta:"),
        (TWO, "de", "cloze", "Die Lage von dem grünen Stern relativ zu dem roten Kreis ist ___. Antwort:"),
        (TWO, "es", "instruction", "¿Dónde está la estrella verde con respecto al círculo rojo?\n"
         "Elige UNA etiqueta de esta lista:\n[left of, behind]\n"
         "Responde SOLO con la etiqueta. Sin explicación."),
        ({**TWO, "question": "size"}, "de", "question",
         "Ist der grüne Stern größer oder kleiner als der rote Kreis? Antwort:"),
        ({**TWO, "question": "size"}, "en", "statement", "Compared with the red circle, the green star is"),
        ({**TWO, "question": "distance"}, "fr", "statement",
         "Par rapport au cercle rouge, l'étoile verte est"),
        (THREE, "en", "question", "Is the green star between the red circle and the pink square? The answer is"),
        (THREE, "de", "question",
         "Liegt der grüne Stern zwischen dem roten Kreis und dem rosafarbenen Quadrat? Antwort:"),
        (THREE, "fr", "question",
         "Est-ce que l'étoile verte est entre le cercle rouge et le carré rose ? Réponse :"),
        ({"subject_shape": "star", "question": "count"}, "en", "question",
         "How many stars are in the image? The number of stars is"),
        ({"subject_shape": "star", "question": "count"}, "fr", "statement",
         "Le nombre d'étoiles dans l'image est"),
        ({"shape_type": "star", "color_label": "red"}, "es", "question",
         "¿De qué color es la estrella? Respuesta:"),
        # A shape without a name in the language is asked about in English.
        ({**TWO, "subject_shape": "cup"}, "de", "statement",
         "The spatial relationship of green cup to red circle is"),
        (TWO, "xx", "statement", "The spatial relationship of green star to red circle is"),
        ({"subject": "a cup", "reference": "a hat", "question": "size"}, "de", "statement",
         "Compared with the a hat, the a cup is"),
        # An unknown `question` is ignored.
        ({**TWO, "question": "How far is it?"}, "en", "statement",
         "The spatial relationship of green star to red circle is"),
    ],
)  # fmt: skip
def test_a_record_is_asked_its_question_in_its_language(record, language, style, prompt):
    forms, fields = questions.question_of({**record, "language": language})
    assert prompts.render(forms[style], dict(fields), ["left_of", "behind"]) == prompt


def test_a_record_that_lacks_what_its_question_needs_has_no_forms():
    assert questions.question_of({**TWO, "question": "between"}) is None
    assert questions.question_of({"subject": "a", "question": "distance"}) is None
    assert questions.question_of({"shape_type": "star"}) is None
    assert questions.question_of({"shape": "star", "label": "x"}) is None
