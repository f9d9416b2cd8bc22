"""Where prompts have the names of subject and reference."""

import pytest

from vsp.datasets import prompts, translations
from vsp.datasets.metadata import read_samples
from vsp.datasets.names import find_name, named_prompt, rendered

LANGUAGES = ["en", "de", "fr", "es"]
RED, BLUE, GREEN = ("star", "red"), ("circle", "blue"), ("square", "green")


def _fields(question, language):
    """The names that fill in the forms of a question."""
    if question == "count":
        return (("subject", translations.plural("star", language)),)
    shapes = {"subject": RED, "reference": BLUE, "second": GREEN}
    if question == "color":
        shapes = {"shape": ("star", "")}
    names = {part: translations.noun_phrases(shape, language) for part, shape in shapes.items()}
    plain = [(part, name) for part, (name, _) in names.items()]
    return (*plain, *((f"to_{part}", after) for part, (_, after) in names.items()))


def _forms():
    for question in prompts.QUESTIONS:
        for language in LANGUAGES:
            for style, form in prompts.prompt_forms(question, language).items():
                yield pytest.param(
                    form, _fields(question, language), id=f"{question}-{language}-{style}"
                )


@pytest.mark.parametrize(("form", "fields"), _forms())
def test_a_name_is_where_the_form_has_it_last(form, fields):
    prompt = rendered(form, fields, ["left_of", "above"])
    assert prompt.text == prompts.render(form, dict(fields), ["left_of", "above"])
    parts = {"subject": prompt.subject, "reference": prompt.reference}
    if fields[0][0] == "shape":
        parts["shape"] = parts.pop("subject")
    for part, span in parts.items():
        names = {name for field, name in fields if field in (part, f"to_{part}")}
        in_form = [form.rfind(f"{{{field}}}") for field in (part, f"to_{part}")]
        if max(in_form) < 0:
            assert span == ()
            continue
        start, stop = span
        assert prompt.text[start:stop] in names
        assert not any(name in prompt.text[stop:] for name in names)
    # The same names are found in the text alone, as in a dataset's own prompt.
    assert named_prompt(prompt.text, fields) == prompt


def _found(prompt, name, *others):
    span = find_name(prompt, name, others)
    return prompt[: span[0]] + f"[{prompt[slice(*span)]}]" + prompt[span[1] :] if span else ""


@pytest.mark.parametrize(
    ("prompt", "name", "others", "expected"),
    [
        ("the cat, the dog. The cat is", "cat", (), "the cat, the dog. The [cat] is"),
        ("man by a man in a hat", "man", ("man in a hat",), "[man] by a man in a hat"),
        ("man by a man in a hat", "man in a hat", ("man",), "man by a [man in a hat]"),
        ("Cat or dog?", "cat", (), "[Cat] or dog?"),
        ("Where? “Cat” is", "cat", (), "Where? “[Cat]” is"),
        ("Is the Cat here", "cat", (), ""),
        ("cats, bobcat, cat2, cat_b", "cat", (), ""),
        ("a stop-sign", "sign", (), ""),
        ("the cat's tail - 'cat'", "cat", (), "the cat's tail - '[cat]'"),
        ("caf\u00e9 or cafe\u0301", "cafe", (), ""),
        ("die größte Straße.", "größte Straße", (), "die [größte Straße]."),
        ("红色圆在蓝色方块的左边吗", "蓝色方块", ("红色圆",), "红色圆在[蓝色方块]的左边吗"),
        ("cat or cat", "cat", ("cat",), ""),
        ("anything", "", ("x",), ""),
    ],
)  # fmt: skip
def test_a_name_is_found_as_words_of_its_own(prompt, name, others, expected):
    assert _found(prompt, name, *others) == expected


def test_samples_know_where_their_prompts_have_the_names(write_dataset):
    record = {"image_filename": "a.png", "label": "above", "subject": "cat", "reference": "cat box"}
    own = {"prompt": "Is the cat on the cat box?", "subject_box": [0, 0, 5, 5],
           "reference_box": [1, 1, 9, 9]}  # fmt: skip
    folder = write_dataset([{**record, **own}])

    def named(style, marker=""):
        (sample,), _, _ = read_samples(folder, style, marker)
        parts = (sample.subject_span, sample.reference_span)
        return [(start, sample.prompt[start:stop]) for start, stop in parts]

    assert named("dataset") == [(7, "cat"), (18, "cat box")]
    assert named("question") == [(46, "cat"), (33, "cat box")]
    assert named("question", marker="<mask>") == [(48, "<mask>"), (36, "<mask>")]
