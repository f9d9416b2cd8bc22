"""The last stage of a study: computes figures from the states of several runs, and keeps them in `results/`.

Reports then need no states. The stage judges the original's probes on the other datasets and on the
mirrored and swapped variant, keeps their predictions on the variants for the verdict, and finds the
axes of relations from the swapped twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from vsp.errors import ProbeError, RunError, StoreError
from vsp.evaluation.axes import relation_axes
from vsp.evaluation.judged_variants import (
    JUDGED_ROLES,
    digest_of,
    is_judged_of,
    judged_variants,
    read_judged,
)
from vsp.evaluation.study_transfers import are_judged, judge_targets
from vsp.storage.axes import read_axes
from vsp.storage.results import Results
from vsp.storage.run import Run
from vsp.storage.sealed_summary import identity_of
from vsp.storage.study import ORIGINAL, Study, results_folder
from vsp.storage.study_record import NotMade, read_record, role_results, write_record

SWAPPED = "swapped"
_AXES = "axes"
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
    if SWAPPED in results and (why := _find_axes(study, results[ORIGINAL], work, say)):
        missing = {**missing, _AXES: why}
    _keep_reasons(study, results, missing, work)


def _keep_reasons(
    study: Study, results: Mapping[str, Results], missing: Mapping[str, str], work: Path
) -> None:
    """Keep why parts were not computed from states that are here."""
    kept, record = {}, read_record(study, work)
    for part, why in missing.items():
        role = SWAPPED if part == _AXES else part
        runs = [study.runs[one] for one in (ORIGINAL, role)]
        if all((work / "scratch" / name / "plan.json").exists() for name in runs):
            kept[part] = NotMade(made_from=_made_from(results, role), why=why)
        elif part in record.not_made:
            kept[part] = record.not_made[part]
    if kept != record.not_made:
        write_record(study, record.model_copy(update={"not_made": kept}), work)


def _made_from(results: Mapping[str, Results], role: str) -> str:
    """The results of the original and of another run that a part is computed from."""
    return f"{digest_of(results[ORIGINAL])} {digest_of(results[role])}"


def is_finished(study: Study, work: Path) -> bool:
    """Whether all figures of several runs are computed from the present probes.

    Figures that cannot be computed, with the reason kept, count as computed.
    """
    try:
        results = study_results(study, work)
        record = read_record(study, work)
        if ORIGINAL not in results or not are_judged(study, work):
            return False
        for part in (*JUDGED_ROLES, _AXES):
            role = SWAPPED if part == _AXES else part
            if role not in study.runs:
                continue
            if role not in results:
                return False
            known = record.not_made.get(part)
            given_up = known is not None and known.made_from == _made_from(results, role)
            if not given_up and not _is_made(study, part, results, work):
                return False
    except RunError:
        return False
    return True


def _is_made(study: Study, part: str, results: Mapping[str, Results], work: Path) -> bool:
    """Whether the kept figures of a part are of these results."""
    original = results[ORIGINAL]
    if part != _AXES:
        judged = read_judged(results_folder(study.name, work) / f"judged-{part}.npz")
        return judged is not None and is_judged_of(judged, original, results[part])
    summary = original.summary()
    axes = read_axes(original.home, study.runs[SWAPPED], str(summary["position"]))
    return axes is not None and axes.identity == identity_of(summary)


def _find_axes(study: Study, original: Results, work: Path, say: Say) -> str:
    """Find the axes if the states are here. Returns why there are none."""
    names = study.runs[ORIGINAL], study.runs[SWAPPED]
    with suppress(RunError):
        run, swapped = (Run.open(work / "scratch" / name) for name in names)
        try:
            relation_axes(run, swapped, str(original.summary()["position"]))
        except (RunError, ProbeError, StoreError) as error:
            say(f"no axes of relations: {error}")
            return str(error)
        say(f"axes of relations: `vsp axes {names[0]} {names[1]}` shows them")
    return ""


def study_results(study: Study, work: Path) -> dict[str, Results]:
    """The results with the study's setting of the probe by role, of the runs that have some."""
    found = {}
    for role in study.runs:
        with suppress(RunError):
            results = role_results(study, role, work)
            results.read()
            found[role] = results
    return found
