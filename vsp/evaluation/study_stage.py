"""The last stage of a study: computes figures from the states of several runs, and keeps them in `results/`.

Reports then need no states. The stage judges the original's probes on the other datasets and on the
mirrored and swapped variant, keeps their predictions on the variants for the verdict, and finds the
axes of relations from the swapped twin.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vsp.errors import ProbeError, RunError, StoreError
from vsp.evaluation.axes import relation_axes
from vsp.evaluation.judged_variants import judged_variants
from vsp.evaluation.study_transfers import judge_targets
from vsp.storage.find_results import find_results
from vsp.storage.results import Results
from vsp.storage.run import Run
from vsp.storage.study import ORIGINAL, Study, results_folder

SWAPPED = "swapped"
Say = Callable[[str], None]


def finish_study(study: Study, work: Path, say: Say) -> None:
    """Compute the figures that are missing or out of date; `say` gets a line for each part."""
    results = study_results(study, work)
    if ORIGINAL not in results:
        return
    judge_targets(study, work, say)
    judged, missing = judged_variants(results, results_folder(study.name, work), work)
    if judged:
        say(f"predictions of the original's probes on {', '.join(judged)} are kept for the verdict")
    for role, why in missing.items():
        say(f"{role}: no predictions of the original's probes: {why}")
    if SWAPPED in results:
        _find_axes(study, work, say)


def _find_axes(study: Study, work: Path, say: Say) -> None:
    names = study.runs[ORIGINAL], study.runs[SWAPPED]
    with suppress(RunError):
        run, swapped = (Run.open(work / "scratch" / name) for name in names)
        try:
            relation_axes(run, swapped)
        except (RunError, ProbeError, StoreError) as error:
            say(f"no axes of relations: {error}")
            return
        say(f"axes of relations: `vsp axes {names[0]} {names[1]}` shows them")


def study_results(study: Study, work: Path) -> dict[str, Results]:
    """The newest results at the last token by role, of the runs that have some."""
    found = {}
    for role, name in study.runs.items():
        with suppress(RunError):
            results = find_results(name, work)
            results.read()
            found[role] = results
    return found
