"""`vsp report --study NAME --by FIELD`: the strata of the original, and the same strata of each control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType

from vsp.errors import ConfigError, RunError
from vsp.escaping import one_line
from vsp.evaluation.strata import Strata, strata_of
from vsp.reporting.columns import Column, FittingTable, figure_cells
from vsp.reporting.strata_page import strata_page
from vsp.reporting.study_facts import StudyFacts
from vsp.storage.study import ORIGINAL
from vsp.utils.terminal import folded_text, text_line
from vsp.utils.text import shorten

_NAME = 24  # characters of a stratum's name in a table


@dataclass(frozen=True, slots=True)
class StudyStrata:
    """The strata of a study's original and of its controls."""

    original: Strata
    controls: Mapping[str, Strata]  # by role
    missing: Mapping[str, str]  # role → why there are no strata


def study_strata(facts: StudyFacts, field: str) -> StudyStrata:
    """Scores by a field of the records, as `strata_of` finds them for each run.

    Raises RunError if the original has no results, and what `strata_of` raises for it.
    """
    name = facts.study.name
    results = facts.results()
    if ORIGINAL not in results:
        raise RunError(
            f"--by {field}: the original of study {name} has no results; `vsp study {name}` goes on with it"
        )
    original = strata_of(results[ORIGINAL], field)
    controls, missing = {}, {}
    for one in facts.runs:
        if one.role not in facts.study.variants:
            continue
        if one.results is None:
            missing[one.role] = "no results"
            continue
        try:
            controls[one.role] = strata_of(one.results, field)
        except (ConfigError, RunError) as error:
            missing[one.role] = str(error)
    return StudyStrata(original, controls, missing)


def study_strata_page(found: StudyStrata) -> RenderableType:
    """The strata of the original as `vsp report --by` shows them, then a column for each control."""
    parts: list[RenderableType] = [strata_page(found.original)]
    shown = {ORIGINAL: found.original, **found.controls}
    names = [one.name for one in found.original.strata if one.knows is not None]
    if found.controls and names:
        title = f"The same by {shorten(one_line(found.original.field), 40)} of each control"
        parts += [text_line(), text_line(title, style="bold"), _table(names, shown), text_line()]
        parts.append(
            folded_text(
                "Accuracy of each run's own probe, in the strata of its own rows; – means that a run has "
                "too few rows of a stratum."
            )
        )
    parts += [
        folded_text(f"! {role}: {why}", style="yellow") for role, why in found.missing.items()
    ]
    return Group(*parts)


def study_strata_json(found: StudyStrata) -> dict[str, Any]:
    """All figures by role, and why runs have none."""
    every = {ORIGINAL: found.original, **found.controls}
    return {
        "runs": {role: asdict(one) for role, one in every.items()},
        "missing": dict(found.missing),
    }


def _table(names: list[str], shown: Mapping[str, Strata]) -> RenderableType:
    columns = [Column("stratum", [text_line(shorten(one_line(one), _NAME)) for one in names])]
    for rank, (role, strata) in enumerate(shown.items()):
        of_role = {one.name: one.knows for one in strata.strata if one.knows is not None}
        values = [f"{of_role[one].value:.3f}" if one in of_role else "–" for one in names]
        columns.append(Column(role, figure_cells(values), rank))
    return FittingTable(columns, [""] * len(names))
