"""Results of the untrained model: the same rows and the same model with random weights.

They are the baseline that says what a probe reads from an architecture alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vsp.config import parse
from vsp.errors import ConfigError
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.stored_settings import StoredSetting, stored_settings


def find_untrained(home: Path, setting: str, position: str, plan: Plan) -> Results | None:
    """Results beside `home` of the untrained model of `plan`; None if there are none.

    Those at `position` of the same `setting` come first, then those of the newest run, and of its
    settings the one written last. A summary that cannot be read is passed over.
    """
    found = [
        (one.results.setting == setting, other.created, -age, one.results)
        for age, one, other in _plans(home.absolute().parent, position)
        if is_untrained(plan, other)
    ]
    return max(found, key=lambda one: one[:3])[3] if found else None


def is_untrained(plan: Plan, other: Plan) -> bool:
    """Whether `other` plans the same rows as `plan` with the untrained model of it."""
    weights = {"weights": "checkpoint"}
    return (
        other.model.weights == "random"
        and other.model.model_copy(update=weights) == plan.model
        and (other.prompt, other.manifest_sha256) == (plan.prompt, plan.manifest_sha256)
    )


def _plans(folder: Path, position: str) -> Iterator[tuple[int, StoredSetting, Plan]]:
    """All results at a position in `folder`, with the plan of their summary.

    The number ahead counts the settings of a run, from the one written last.
    """
    for home in folder.glob("*/"):
        for age, one in enumerate(stored_settings(home)):
            if one.position == position:
                with suppress(ConfigError):
                    yield age, one, parse(Plan, one.values.get("plan"), str(one.results.folder))
