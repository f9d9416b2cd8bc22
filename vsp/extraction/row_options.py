"""The answers from which a row's prompt asks to choose."""

from __future__ import annotations

from vsp.datasets.prompts import label_words
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan


def options_of(plan: Plan, sample: Sample) -> tuple[str, ...]:
    """The row's own options, those of all rows, or the labels in the words of a prompt.

    They are in the order of the stored answers.
    """
    of_row = sample.options if plan.answers is None else plan.answers.texts_of(sample)
    return tuple(text.strip() for text in of_row or map(label_words, plan.labels))
