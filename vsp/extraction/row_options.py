"""The answers from which a row's prompt asks to choose."""

from __future__ import annotations

from vsp.datasets.prompts import label_words
from vsp.storage.manifest import Sample
from vsp.storage.run import Plan


def options_of(plan: Plan, sample: Sample) -> tuple[str, ...]:
    """The labels of the plan, in the words of a prompt."""
    return tuple(map(label_words, plan.labels))
