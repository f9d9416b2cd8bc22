"""The strata of the runs of a page: those of `--by`, and the usual label and the cue of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsp.errors import ConfigError, DatasetError, RunError
from vsp.evaluation.intuition import BOX_CUE, USUAL_LABEL
from vsp.evaluation.strata import Strata, strata_of
from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.page_run import PageRun


@dataclass(frozen=True, slots=True)
class PageStrata:
    """Strata with the name that their run has on the page, by field and then by run."""

    found: tuple[tuple[str, Strata], ...] = ()
    left_out: tuple[str, ...] = ()  # why runs have no strata by the field that was asked for
    notes: tuple[str, ...] = ()  # the same of the fields that are looked at by default

    @property
    def fields(self) -> list[str]:
        return list(dict.fromkeys(strata.field for _, strata in self.found))


def strata_of_runs(runs: Sequence[PageRun], by: str | None = None) -> PageStrata:
    """Scores of each run by the field `by`, and by usual label and box cue if rows have these.

    Raises ConfigError or RunError, as `strata_of` does, if the first run has no strata by `by`.
    """
    found: list[tuple[str, Strata]] = []
    left_out: list[str] = []
    notes: dict[str, None] = {}  # equal for usual label and box cue if the records are gone
    for field in dict.fromkeys([*([by] if by is not None else []), USUAL_LABEL, BOX_CUE]):
        for run in (one for one in runs if one.classes or field == by):
            try:
                strata = strata_of(run.results, field)
            except (ConfigError, RunError, DatasetError) as error:
                if field == by and run is runs[0]:
                    raise
                why = without_folders(f"strata of {run.name}: {error}", run)
                left_out += [why] if field == by else []
                notes |= {} if field == by else {why: None}
                continue
            if field == by or any(one.knows for one in strata.strata):
                found.append((run.name, strata))
            elif strata.strata:
                notes[f"strata of {run.name} by {field}: too few rows of each"] = None
    return PageStrata(tuple(found), tuple(left_out), tuple(notes))
