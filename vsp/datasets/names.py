"""Where a prompt has the names of subject and reference.

In a prompt form, a name stands where the form has its field. In a dataset's own prompt, it is
searched. Of several places, the last one counts: a model that reads from left to right has seen most
of the question there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vsp.datasets import prompts
from vsp.datasets.questions import Fields

Span = tuple[int, ...]  # the first character, and the one behind the last; empty: no place
# The fields of a prompt form that hold the names.
_FIELDS = {
    "subject": ("subject", "to_subject", "shape", "to_shape"),
    "reference": ("reference", "to_reference"),
}
# Letters of scripts that write no spaces: Thai, Lao, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_LETTER = "[\\w\u0300-\u036f]"  # with the accents that are characters of their own
# A place between two characters of one word; a hyphen joins words: "stop-sign".
_INSIDE_WORD = re.compile(
    f"(?<={_LETTER})(?={_LETTER})(?<!{_UNSPACED})(?!{_UNSPACED})"
    r"|(?<=\w)(?=-\w)|(?<=\w-)(?=\w)"
)
_BEFORE_SENTENCE = " \t\"'“„«‘([¿¡"
_ENDS_OF_SENTENCES = (".", "!", "?", ":", ";", "\n")


class NamedPrompt(NamedTuple):
    """A prompt, and where it has the names of subject and reference."""

    text: str
    subject: Span
    reference: Span


def rendered(form: str, fields: Fields, labels: Sequence[str]) -> NamedPrompt:
    """A prompt form filled in."""
    values = dict(fields)
    spans = prompts.field_spans(form, values, labels)
    places = (
        max((spans[field] for field in names if field in spans), default=())
        for names in _FIELDS.values()
    )
    return NamedPrompt(prompts.render(form, values, labels), *places)


def named_prompt(text: str, fields: Fields) -> NamedPrompt:
    """A dataset's own prompt about the names in `fields`."""
    places = []
    for names in _FIELDS.values():
        own = {name for field, name in fields if field in names}
        others = [name for field, name in fields if field not in names]
        places.append(max((find_name(text, name, others) for name in own), default=()))
    return NamedPrompt(text, *places)


def find_name(prompt: str, name: str, other_names: Iterable[str]) -> Span:
    """The last place in the prompt where `name` stands as words of its own.

    Places inside one of `other_names` do not count ("man" in "man in a hat"). At the start of a
    sentence, the name may have a capital letter. Empty if the prompt does not have the name, or if
    another name is equal.
    """
    others = [other for other in other_names if name in other]
    if not name or name in others:
        return ()
    taken = [span for other in others for span in _places(prompt, other)]
    return max(
        (
            (start, stop)
            for start, stop in _places(prompt, name)
            if not any(first <= start and stop <= last for first, last in taken)
        ),
        default=(),
    )


def _places(prompt: str, name: str) -> Iterator[Span]:
    """The places of a name as whole words."""
    for written in {name, name[:1].upper() + name[1:]}:
        at = prompt.find(written)
        while at >= 0:
            stop = at + len(written)
            inside = _INSIDE_WORD.match(prompt, at) or _INSIDE_WORD.match(prompt, stop)
            if not inside and (written == name or _starts_sentence(prompt, at)):
                yield at, stop
            at = prompt.find(written, at + 1)


def _starts_sentence(text: str, at: int) -> bool:
    """Whether a sentence begins at the character `at`."""
    before = text[:at].rstrip(_BEFORE_SENTENCE)
    return not before or before.endswith(_ENDS_OF_SENTENCES)
