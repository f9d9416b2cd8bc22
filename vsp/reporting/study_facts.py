"""What a study found, read from `results/` alone: the figures of each run, and the transfers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vsp.errors import ConfigError, RunError, VspError
from vsp.evaluation.judged_variants import JUDGED_ROLES, is_judged_of, read_judged
from vsp.evaluation.study_stage import SWAPPED
from vsp.evaluation.study_transfers import StudyTransfers, read_transfers
from vsp.evaluation.verdict import StudyVerdict, VerdictSettings
from vsp.evaluation.verdict_use import uses_of
from vsp.reporting.answer import answer
from vsp.reporting.cautions import cautions
from vsp.reporting.kept_verdicts import KeptVerdicts
from vsp.reporting.untrained import read_untrained
from vsp.storage.axes import Axes, read_axes
from vsp.storage.found_effects import FoundEffects, effects_about
from vsp.storage.results import Results
from vsp.storage.run_list import ListedRun, listed_run
from vsp.storage.sealed_summary import identity_of
from vsp.storage.stored_settings import why_stale
from vsp.storage.study import ORIGINAL, Study, results_folder
from vsp.storage.study_record import role_results

FIGURES_NOTE = (
    "peak: the layer that the training rows select, on test rows, with its interval; chance: the most "
    "frequent label; words: a probe of the prompt's words; says: the model's own answers."
)


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """What the run of a role found; `why_not` says why there are no figures."""

    role: str
    listed: ListedRun
    results: Results | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    why_not: str = ""
    stale: str = ""  # why the figures are of an older state of the run

    @property
    def words(self) -> Mapping[str, Any] | None:
        """Score and interval of the words alone; None if they were not probed."""
        found: Mapping[str, Any] | None = self.summary.get("baselines", {}).get("words alone")
        return found

    @property
    def says(self) -> Mapping[str, Any] | None:
        """Score and interval of the model's own answers; None without answers."""
        says = self.summary.get("says")
        return says["figures"][says["statistic"]]["says"] if says else None


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What a study found so far."""

    study: Study
    runs: tuple[RoleFacts, ...]
    transfers: StudyTransfers
    verdict: StudyVerdict | None = None
    axes: Axes | None = None  # from the swapped twin
    effects: tuple[FoundEffects, ...] = ()  # of interventions on the original
    answer: str = ""  # what the original's curve shows, in sentences
    cautions: tuple[str, ...] = ()

    def results(self) -> dict[str, Results]:
        """The results by role, of the runs that have some."""
        return {one.role: one.results for one in self.runs if one.results is not None}


def study_facts(
    study: Study, work: Path, margin: float | None = None, verdicts: KeptVerdicts | None = None
) -> StudyFacts:
    """Raises nothing for a run without results, or with results that cannot be read.

    `margin` is that of the verdict; None: the default. `verdicts` keeps verdicts for later calls.
    """
    runs = tuple(_role_facts(study, role, work) for role in study.runs)
    transfers = read_transfers(study, work)
    original = next(one for one in runs if one.role == ORIGINAL)
    said, doubts = "", []
    if original.results is not None:
        summary, scores = original.results.read()
        said = answer(summary, scores)
        doubts = cautions(summary, read_untrained(original.results, summary))
    effects, of_effects = _effects(original)
    verdict, of_verdict = _verdict(study, runs, work, margin, verdicts or KeptVerdicts())
    uses = uses_of(effects)
    if verdict is not None and uses:
        verdict = replace(verdict, uses=uses)
    axes, of_axes = _axes(study, runs)
    found = [
        *doubts,
        *_of_runs(study, runs),
        *_of_transfers(study, transfers),
        *of_verdict,
        *of_axes,
        *of_effects,
    ]
    return StudyFacts(study, runs, transfers, verdict, axes, tuple(effects), said, tuple(found))


def _effects(original: RoleFacts) -> tuple[list[FoundEffects], list[str]]:
    """The effects of interventions on the original, and why others are not shown."""
    if original.results is None:
        return [], []
    return effects_about(original.results.home, identity_of(original.summary))


def _verdict(
    study: Study,
    runs: Sequence[RoleFacts],
    work: Path,
    margin: float | None,
    verdicts: KeptVerdicts,
) -> tuple[StudyVerdict | None, list[str]]:
    """The verdict from what is kept, and what it lacks; None without an original."""
    results = {one.role: one.results for one in runs if one.results is not None}
    if ORIGINAL not in results:
        return None, []
    judged, older = {}, []
    for role in (one for one in JUDGED_ROLES if one in results):
        kept = read_judged(results_folder(study.name, work) / f"judged-{role}.npz")
        if kept is not None and is_judged_of(kept, results[ORIGINAL], results[role]):
            judged[role] = kept
        else:
            older.append(role)
    again = f"`vsp study {study.name} --finish` judges them"
    lacks = (
        [f"verdict: lacks the original's probes on {', '.join(older)}; {again}"] if older else []
    )
    try:
        settings = VerdictSettings() if margin is None else VerdictSettings(margin=margin)
        return verdicts.of(results, judged, settings), lacks
    except (ConfigError, RunError) as error:
        return None, [f"no verdict: {error}"]


def _axes(study: Study, runs: Sequence[RoleFacts]) -> tuple[Axes | None, list[str]]:
    original = next(one for one in runs if one.role == ORIGINAL)
    if SWAPPED not in study.runs or original.results is None:
        return None, []
    try:
        position = str(original.summary["position"])
        axes = read_axes(original.results.home, study.runs[SWAPPED], position)
    except RunError as error:
        return None, [str(error)]
    if axes is not None and axes.identity != identity_of(original.summary):
        again = f"`vsp study {study.name} --finish` finds them again"
        return None, [f"axes: belong to an earlier plan of {original.listed.name}; {again}"]
    return axes, []


def _role_facts(study: Study, role: str, work: Path) -> RoleFacts:
    listed = listed_run(work, study.runs[role])
    try:
        results = role_results(study, role, work)
        summary, _ = results.read()
    except VspError as error:
        why = str(error) if listed.peaks or listed.problems else _state(listed)
        return RoleFacts(role, listed, why_not=why)
    return RoleFacts(role, listed, results, summary, stale=why_stale(results, summary["rows"]))


def _state(listed: ListedRun) -> str:
    """The progress of a run without results."""
    if listed.run is None:
        return "not planned"
    n_rows = listed.run.plan.n_samples
    if listed.n_done + listed.n_failed < n_rows:
        return f"{listed.n_done:,} of {n_rows:,} rows are extracted"
    failed = f", {listed.n_failed:,} rows failed" if listed.n_failed else ""
    return f"extracted, not probed{failed}"


def _of_runs(study: Study, runs: tuple[RoleFacts, ...]) -> list[str]:
    alike: dict[str, list[str]] = {}
    for one in runs:
        if one.results is None:
            alike.setdefault(one.why_not, []).append(one.role)
    lines = [f"{', '.join(roles)}: {why}" for why, roles in alike.items()]
    lines += [f"{one.listed.name}: stale: {one.stale}" for one in runs if one.stale]
    if lines:
        lines.append(f"`vsp study {study.name}` goes on with what is missing")
    settings = {one.role: one.results.setting for one in runs if one.results is not None}
    other = [role for role, one in settings.items() if one != settings.get(ORIGINAL, one)]
    if other:
        lines.append(
            f"{', '.join(other)}: the results are of another setting of the probe "
            f"({settings[other[0]]}) than those of the original ({settings[ORIGINAL]})"
        )
    return lines


def _of_transfers(study: Study, found: StudyTransfers) -> list[str]:
    again = f"`vsp study {study.name} --finish` judges them again"
    lines = [f"transfer to {role}: not judged: {why}" for role, why in found.not_judged.items()]
    if found.older:
        lines.append(
            f"transfer to {', '.join(found.older)}: was judged with earlier probes; {again}"
        )
    if found.problem:
        lines.append(found.problem)
    return lines


def missing_runs(facts: StudyFacts) -> list[str]:
    """The names of the runs without results."""
    return [one.listed.name for one in facts.runs if one.results is None]


def selected_layer(summary: Mapping[str, Any]) -> int | None:
    """The layer that most splits selected."""
    with suppress(ValueError):
        layers = summary["peak"]["layers"]
        return int(max(layers, key=lambda one: (layers[one], -int(one))))
    return None
