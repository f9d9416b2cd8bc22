"""The run that asks the same questions about blank pictures.

Its answers are those that a model gives from the words alone, the prior of the options.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from vsp.errors import RunError
from vsp.storage.plan import Plan
from vsp.storage.run import Run

BLANK = "blank"  # the variant, see vsp.datasets.VARIANTS


def blank_runs(run: Run) -> list[Run]:
    """The runs beside `run` of the variant with blank pictures that store answers, newest first.

    They have the same model, checkpoint, prompt and labels. Runs that cannot be read are passed
    over. Whether their rows are those of `run` is not checked.
    """
    found = [other for other in _runs_beside(run) if is_blank(run.plan, other.plan)]
    return sorted(found, key=lambda other: (other.plan.created, other.name), reverse=True)


def is_blank(plan: Plan, other: Plan) -> bool:
    """Whether `other` asks the model of `plan` about blank pictures and stores its answers."""
    same = ("model", "checkpoint_files", "prompt", "labels")
    return (
        other.answers is not None
        and other.effects is None
        and plan.answers is not None
        and other.answers.options == plan.answers.options
        and other.answers.start == plan.answers.start
        and other.variants == (*plan.variants, BLANK)
        and all(getattr(other, name) == getattr(plan, name) for name in same)
    )


def _runs_beside(run: Run) -> Iterator[Run]:
    for path in run.folder.absolute().parent.glob("*/plan.json"):
        with suppress(RunError):
            yield Run.open(path.parent)
