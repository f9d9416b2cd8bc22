"""Read the options and the answer of a multiple-choice question, and write its prompt.

A label is the text of the right option, never its letter or its number. An answer is read as the
option `answer` of `vsp import` says:

    text     the text of one of the options
    letter   its letter, "B", "(B)", "B." or "b": A is the first option
    index0   its number, counted from 0
    index1   its number, counted from 1
    auto     the default: a text if it is one of the options, else a letter, else a number from 0

With auto, an answer that is the text of one option and the letter or number of another one is
refused; so are numbers that seem to count from 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from vsp.datasets.importers.field_texts import plain_text, text_list
from vsp.datasets.importers.funnel import NO_SUCH_OPTION, UNCLEAR_OPTIONS
from vsp.datasets.importers.options import chosen
from vsp.errors import DatasetError
from vsp.utils.text import composed

ANSWER_FORMS = ("auto", "text", "letter", "index0", "index1")
PROMPT_FORMS = ("options", "question")
OPTIONS = ("answer", "prompt")  # options of `vsp import` for these questions
_HOW = "say how answers are written with --option answer=text, letter, index0 or index1"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER = re.compile(r"\(?\s*(\w{1,9})\s*\)?\s*[.:]?")
_MARKED = re.compile(r"\(?([A-Z])[.):]\s+(?=\S)|\(([A-Z])\)\s*(?=\S)")  # "A. left", "(A) left"
_NUMBER = re.compile(r"([0-9]{1,3})(?:\.0)?")  # a column with empty cells may hold "1.0"
_MAX_OPTIONS = 1 << 10


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a question in the order of the source."""

    keys: tuple[str, ...]  # letters, or the source's own keys
    texts: tuple[str, ...]
    written: tuple[str, ...] = ()  # as the source has them: "A. left" for "left"


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple-choice question as values of `Relation`."""

    prompt: str
    label: str  # "": the source gives no answer
    options: tuple[str, ...]
    unusable: str = ""  # one of vsp.datasets.importers.funnel.UNUSABLE


class ChoiceReader:
    """Reads the questions of one file as the options of `vsp import` say.

    Raises ConfigError if an option has an unknown value.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._answer = chosen(options, "answer", ANSWER_FORMS)
        self._prompt = chosen(options, "prompt", PROMPT_FORMS)
        self._n_numbers = self._n_zeros = 0  # answers that were taken for a number from 0

    def choice(
        self, question: Any, options: Options | None, answer: Any, hint: Any = None
    ) -> Choice:
        """The values of a row, from its fields. A hint is put before the question.

        Without options (None), the question is an open one, and the label is the answer's text.

        Raises DatasetError if a field is not text, or if the answer can be read in two ways.
        """
        asked = plain_text("question", question)
        if not asked:
            raise DatasetError("has no question; write a text")
        prompt = "\n".join(filter(None, (plain_text("hint", hint), asked)))
        if options is None:
            return Choice(prompt, self.open_answer(answer), ())
        written = _answer_text(answer)
        texts = options.texts
        if self._prompt == "options":
            prompt = "\n".join((prompt, "Options:", *texts, "Answer with one of the options."))
        if not written:
            return Choice(prompt, "", texts)
        if len(texts) < 2 or len(set(texts)) < len(texts):
            return Choice(prompt, written, (), UNCLEAR_OPTIONS)
        place = self._place(options, written)
        if place is None:
            return Choice(prompt, written, texts, NO_SUCH_OPTION)
        return Choice(prompt, texts[place], texts)

    def open_answer(self, answer: Any) -> str:
        """The label of a question without options.

        Raises DatasetError for a letter, unless the option `answer` says that answers are texts.
        """
        written = _answer_text(answer)
        letter = _LETTER.fullmatch(written)
        if letter and letter[1].upper() in tuple(_LETTERS) and self._answer != "text":
            raise DatasetError(
                f"has the answer {shortened(written)} and no options; give the options that letters "
                "stand for, or use --option answer=text if the letter is the label"
            )
        return written

    def check_numbers(self, path: Path) -> None:
        """Raise DatasetError if numbers may count from 1. Call it at the end of each file."""
        n, self._n_numbers = self._n_numbers, 0
        n_zeros, self._n_zeros = self._n_zeros, 0
        if n and not n_zeros:
            raise DatasetError(
                f"{path}: none of {n:,} answers that are numbers is 0, so they may count from 1; use --option "
                "answer=index0 or answer=index1"
            )

    def _place(self, options: Options, written: str) -> int | None:
        """The index of the right option; None if the answer names none."""
        if self._answer == "text":
            return _place_of_text(options, written)
        if self._answer == "letter":
            return _place_of_letter(options, written)
        if self._answer != "auto":
            return _place_of_number(options, written, int(self._answer == "index1"))
        by_text = _place_of_text(options, written)
        by_letter = _place_of_letter(options, written)
        by_number = _place_of_number(options, written, 0)
        others = {place for place in (by_letter, by_number) if place is not None}
        if by_text is not None and others - {by_text}:
            raise DatasetError(
                f"has the answer {shortened(written)}, which is the text of one option and the "
                f"{'letter' if by_number is None else 'number'} of another; {_HOW}"
            )
        number = _number(written)
        if by_text is None and by_letter is None and number is not None:
            self._n_numbers += 1
            self._n_zeros += number == 0
            if number == len(options.texts):
                raise DatasetError(
                    f"has the answer {written} and {len(options.texts)} options, so numbers may "
                    "count from 1; use --option answer=index0 or answer=index1"
                )
        return next((one for one in (by_text, by_letter, by_number) if one is not None), None)


def read_options(value: Any) -> Options:
    """The options in a field: a list of texts or numbers, a mapping letter → text, or such a text.

    A text is a JSON list or mapping, a list as Python prints it, or options separated by "|" or ";".
    Raises DatasetError if it is none of these.
    """
    if isinstance(value, str):
        value = _split(value)
    if not isinstance(value, list | tuple | Mapping):
        raise DatasetError(f"has options {shortened(value)}; give it a list of texts")
    if len(value) > _MAX_OPTIONS:
        raise DatasetError(f"has {len(value):,} options; at most {_MAX_OPTIONS:,} can be read")
    if isinstance(value, Mapping):
        keys = tuple(str(key).strip() for key in value)
        return _unmarked(keys, tuple(map(_option_text, value.values())))
    return _unmarked(_letters(len(value)), tuple(map(_option_text, value)))


def lettered_options(texts: Mapping[str, str]) -> Options | None:
    """The options in columns that are named by letters; None if there are no such columns.

    Empty cells are no options.
    """
    if not texts:
        return None
    given = {key: text for key, text in texts.items() if text.strip()}
    return Options(tuple(given), tuple(map(_option_text, given.values())))


def _letters(n: int) -> tuple[str, ...]:
    """The letters of `n` options; those after Z have none."""
    return tuple(_LETTERS[:n]) + ("",) * (n - len(_LETTERS))


def _answer_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with missing numbers holds floats
    return composed(plain_text("answer", value))


def _option_text(value: Any) -> str:
    if isinstance(value, float) and isfinite(value):
        value = repr(value)
    text = composed(plain_text("option", value))
    if not text:
        raise DatasetError("has an empty option; give each option a text")
    return text


def _split(text: str) -> Any:
    text = plain_text("options", text)
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise DatasetError(f"has options {shortened(text)}, which are not JSON") from None
    if text.startswith("["):
        entries = text_list(text, most=_MAX_OPTIONS + 1)
        if entries is None:
            raise DatasetError(f'has options {shortened(text)}; write ["left", "right"]')
        return entries
    marks = [mark for mark in "|;" if mark in text]
    if len(marks) != 1:
        what = "contain both | and ;" if marks else "contain neither | nor ;"
        raise DatasetError(
            f"has options {shortened(text)}, which {what}; separate them by one of these, or write "
            '["left", "right"]'
        )
    return text.split(marks[0])


def _unmarked(keys: tuple[str, ...], texts: tuple[str, ...]) -> Options:
    """The options without letters before them, if each begins with its own: "A. left"."""
    marks = [_MARKED.match(text) for text in texts]
    if all(mark and (mark[1] or mark[2]) == key for mark, key in zip(marks, keys, strict=True)):
        return Options(
            keys, tuple(t[m.end() :] for t, m in zip(texts, marks, strict=True) if m), texts
        )
    return Options(keys, texts)


def _place_of_text(options: Options, written: str) -> int | None:
    for texts in (options.texts, options.written):
        if written in texts:
            return texts.index(written)
    return None


def _place_of_letter(options: Options, written: str) -> int | None:
    match = _LETTER.fullmatch(written)
    names = (match[1], match[1].upper()) if match else ()
    return next((options.keys.index(name) for name in names if name in options.keys), None)


def _place_of_number(options: Options, written: str, first: int) -> int | None:
    number = _number(written)
    place = -1 if number is None else number - first
    return place if 0 <= place < len(options.texts) else None


def _number(written: str) -> int | None:
    found = _NUMBER.fullmatch(written)
    return int(found[1]) if found else None
