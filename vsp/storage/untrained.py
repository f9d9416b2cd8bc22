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
from vsp.utils.reading import read_json


def find_untrained(results: Results, plan: Plan) -> Results | None:
    """The newest results beside `results` of the untrained model of `plan`; None if there are none.

    Folders whose summary cannot be read are passed over: whose results they hold is not known.
    """
    found = [
        (other.created, folder)
        for folder, other in _plans(results.home.absolute().parent, results.position)
        if is_untrained(plan, other)
    ]
    return Results(max(found)[1]) if found else None


def is_untrained(plan: Plan, other: Plan) -> bool:
    """Whether `other` plans the same rows as `plan` with the untrained model of it."""
    weights = {"weights": "checkpoint"}
    return (
        other.model.weights == "random"
        and other.model.model_copy(update=weights) == plan.model
        and (other.prompt, other.manifest_sha256) == (plan.prompt, plan.manifest_sha256)
    )


def _plans(folder: Path, position: str) -> Iterator[tuple[Path, Plan]]:
    """Each folder of results at a position in `folder`, with the plan of its summary."""
    for run in folder.glob("*/"):
        path = Results(run).at(position).folder / "summary.json"
        with suppress(OSError, ValueError, RecursionError, ConfigError):
            values = read_json(path)
            if isinstance(values, dict):
                yield path.parent, parse(Plan, values.get("plan"), str(path))
