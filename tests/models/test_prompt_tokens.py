"""Tokens of names and options, with tokenizers of each kind."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import token_kinds
from transformers import AutoTokenizer

from vsp.datasets import prompts, translations
from vsp.datasets.names import named_prompt, rendered
from vsp.demo_checkpoint import make_tokenizer
from vsp.errors import InputError
from vsp.models.contract import TokenizedPrompt
from vsp.models.prompt_tokens import option_tokens, span_tokens

SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt/llm"
SHAPES = {
    "subject": ("star", "purple"), "reference": ("circle", "red"), "second": ("square", "green"),
    "shape": ("pentagon", ""),
}  # fmt: skip


def _named_prompts():
    """Every prompt form in every language, and prompts with other letters."""
    for language in ("en", "de", "fr", "es"):
        for question in prompts.QUESTIONS:
            fields = []
            for part, shape in SHAPES.items():
                name, after = translations.noun_phrases(shape, language)
                fields += [(part, name), (f"to_{part}", after)]
            if question == "count":
                fields = [("subject", translations.plural("star", language))]
            for form in prompts.prompt_forms(question, language).values():
                yield rendered(form, tuple(fields), ["left_of", "above"])
    for text, *names in [
        ("红色圆 在 蓝色方块 的左边吗", "红色圆", "蓝色方块"),
        ("红圆在蓝块左边吗", "红圆", "蓝块"),
        ("Is the “größte Straße” by a ñandú?", "größte Straße", "ñandú"),
    ]:
        yield named_prompt(text, tuple(zip(("subject", "reference"), names, strict=True)))


PROMPTS = list(_named_prompts())
TEXTS = [prompt.text for prompt in PROMPTS[:-2]]
LLAMA = {
    "type": "Sequence",
    "normalizers": [{"type": "Prepend", "prepend": "▁"},
                    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}],
}  # fmt: skip
KINDS = {
    "demo": make_tokenizer,
    "spatialrgpt": lambda: AutoTokenizer.from_pretrained(SPATIALRGPT),
    "llama 3": lambda: token_kinds.byte_level(TEXTS, trim_offsets=True),
    "qwen": lambda: token_kinds.byte_level(TEXTS, trim_offsets=False),
    "llama 2": lambda: token_kinds.sentencepiece(TEXTS, LLAMA),
    "gemma": lambda: token_kinds.sentencepiece(TEXTS, LLAMA["normalizers"][1]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_name_decode_to_the_name_in_every_form_and_language(kind):
    tokenizer = KINDS[kind]()
    n_names = 0
    for prompt in PROMPTS:
        text = f"USER: {prompt.text}\nASSISTANT:"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for start, stop in filter(None, (prompt.subject, prompt.reference)):
            name = prompt.text[start:stop]
            places = span_tokens(tokenizer, text, 6 + start, 6 + stop, add_special_tokens=False)
            assert tokenizer.decode([ids[place] for place in places]).lstrip(" “'¿") == name
            n_names += 1
    assert n_names > 150


@pytest.mark.parametrize(
    ("merge", "text", "span", "reason"),
    [
        (("a", "b"), "a ab", (2, 3), "the tokens of 'a' also hold text around it: 'ab'"),
        (("a", "b"), "a ab", (3, 4), "the tokens of 'b' also hold text around it: 'ab'"),
        (("a", " "), "a b", (0, 1), "the tokens of 'a' also hold text around it: 'a '"),
        (("a", "b"), "a?", (1, 2), r"no tokens stand for '\?'"),
    ],
)
def test_a_token_that_is_also_of_other_text_is_refused(merge, text, span, reason):
    with pytest.raises(InputError, match=reason):
        span_tokens(token_kinds.with_merge(*merge), text, *span)


@pytest.mark.parametrize("merge", [(" ", "b"), ("'", "b")])
def test_a_token_may_begin_with_a_space_or_a_mark_ahead_of_the_name(merge):
    text = f"a{merge[0]}ba"
    assert span_tokens(token_kinds.with_merge(*merge), text, 2, 4) == (1, 2)


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(InputError, match="SimpleNamespace does not say which tokens a name has"):
        span_tokens(SimpleNamespace(is_fast=False), "a", 0, 1)


@pytest.mark.parametrize(
    ("whole", "reason"),
    [
        (
            (1, 3, 4),
            "'left' changes the tokens of its prompt; use another `vsp plan --answer-start` or --no",
        ),
        ((1, 2), "'left' has no token; use another `vsp plan --answer-start` or --no-answers"),
        ((1, 2, 10), "'left' has a token of number 10, beyond the model's 10 embeddings; reword"),
        ((1, 2, *range(4)), "'left' makes 6 tokens with its prompt, over the context of 5"),
    ],
)
def test_an_option_that_cannot_stand_behind_the_prompt_is_refused(whole, reason):
    row = TokenizedPrompt((1, 2), 2)
    good = (1, 2, 9, 9, 9)
    assert option_tokens(row, ["x"], [good], (10, 5), lambda text: None) == ((9, 9, 9),)
    with pytest.raises(InputError, match=f"answer option {reason}"):
        option_tokens(row, ["x", "left"], [good, whole], (10, 5), lambda text: None)


def test_an_option_that_is_a_token_of_the_model_is_refused():
    with pytest.raises(InputError, match="option 'a' holds '<s>', which the model reads as a"):
        option_tokens(TokenizedPrompt((1,), 1), ["a"], [(1, 2)], (9, 9), lambda text: "<s>")
