"""The datasets and the runs of a study: which variants a dataset allows, and a plan for each role.

The run of a variant has the rows of the original's run, in the same order, with the same ids, groups
and splits (`vsp.extraction.same_rows`). A run that is planned is used again; one that was planned for
another study file is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from vsp import models
from vsp.choices import LAST, Position
from vsp.config import ModelConfig, parse
from vsp.datasets import VARIANTS
from vsp.datasets.apply_variant import VariantRequest, apply_variant, check_variant
from vsp.datasets.metadata import metadata_path
from vsp.datasets.prompts import DATASET
from vsp.errors import ConfigError, DatasetError, RunError
from vsp.extraction.plan import Planned
from vsp.extraction.plan_request import RECORD, PlanRequest, request_key
from vsp.extraction.plan_together import plan_again, plan_together
from vsp.extraction.planned_rows import CheckedDatasets
from vsp.models.checkpoints import pinned
from vsp.models.fingerprint import fingerprint
from vsp.storage.plan import Plan
from vsp.storage.run import Run
from vsp.storage.stored_settings import stored_settings
from vsp.storage.study import ON, ORIGINAL, UNTRAINED, Study, study_path
from vsp.utils.reading import read_json
from vsp.utils.spelling import unknown_name

_DATASETS = Path("data/raw")
NAMES, SHUFFLED = "names", "shuffled"
# Variants with the pictures of another one, or of the original, and which one that is.
_SAME_PICTURES: Mapping[str, str] = {"swapped": ORIGINAL, SHUFFLED: ORIGINAL, NAMES: "blank"}
# What the rows of these variants do not have: the names, or the boxes of the objects.
_POSITIONS: Mapping[str, tuple[Position, ...]] = {
    NAMES: (LAST, "image"),
    SHUFFLED: (LAST, "image", "subject", "reference"),
}


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A run of a study."""

    role: str
    name: str
    request: PlanRequest
    run: Run | None = None  # None: it has no states here
    planned: Planned | None = None  # the facts of a new one
    kept: bool = False  # its states were removed, its results are there


def known_controls() -> list[str]:
    """All variants of datasets, and the untrained model."""
    return [*VARIANTS.names(), UNTRAINED]


def why_not(control: str, dataset: Path, model: ModelConfig) -> str:
    """Why a control cannot be made of this dataset and model; empty if it can. Writes nothing."""
    if control == UNTRAINED:
        if model.weights == "random":
            return "the model of the study has random weights itself"
        if not models.load_family(model.family).has_untrained:
            return f"model {model.family} has no untrained weights"
        return ""
    if control not in VARIANTS:
        return unknown_name("control", control, known_controls())
    try:
        check_variant(dataset, control)
    except DatasetError as error:
        return "; ".join([str(error), *error.details[:1]])
    return ""


def check_controls(controls: Sequence[str], dataset: Path, model: ModelConfig) -> None:
    """Raise ConfigError for the first control that cannot be made."""
    for control in controls:
        if why := why_not(control, dataset, model):
            raise ConfigError(f"with {control}: {why}; leave it out")


def check_datasets(study: Study, work: Path) -> None:
    """Raise DatasetError for a dataset that is not there."""
    for dataset in study.datasets.values():
        metadata_path(work / dataset)


def variant_folder(study: Study, variant: str, work: Path) -> Path:
    """The folder of a variant of the study's dataset; of the untrained model, the dataset itself."""
    if variant in (ORIGINAL, UNTRAINED):
        return work / study.dataset
    name = PurePath(study.dataset).name or (work / study.dataset).resolve().name
    return work / _DATASETS / f"{name}-{variant}"


def make_datasets(
    study: Study, work: Path, n_jobs: int, say: Callable[[bool, str, list[str]], None]
) -> None:
    """Make the variants of the dataset that are not there; `say` gets each one, and what rows lost.

    Raises DatasetError if a folder of that name holds something else.
    """
    for variant in study.variants:
        if variant == UNTRAINED:
            continue
        output = variant_folder(study, variant, work)
        request = VariantRequest(work / study.dataset, variant, output)
        advice = f"remove it, or give {study.dataset} another name"
        fresh, notes = apply_variant(request, n_jobs, advice)
        say(fresh, f"{output}, {variant} of {study.dataset}", notes)


def role_request(study: Study, role: str, base: PlanRequest, work: Path) -> PlanRequest:
    """The plan of a role. `base` is that of the original, without a name."""
    run = study.runs[role]
    if role == ORIGINAL:
        return replace(base, name=run)
    if role.startswith(f"{ON}-"):
        return replace(base, name=run, dataset=work / study.datasets[role])
    request = replace(
        base,
        name=run,
        dataset=variant_folder(study, role, work),
        rows_of=study.runs[ORIGINAL],
        prompt=DATASET if role == NAMES else base.prompt,  # no form can be made of names alone
    )
    if role == UNTRAINED:
        return replace(request, model=base.model.model_copy(update={"weights": "random"}))
    allowed = _POSITIONS.get(role)
    if allowed is None:
        return request
    return replace(request, positions=tuple(one for one in base.positions if one in allowed))


def plan_study(
    study: Study,
    base: PlanRequest,
    work: Path,
    needs_states: bool,
    hold: Callable[[], None],
    free: Callable[[], AbstractContextManager[None]],
    done: Callable[[StudyRun], None],
    setting: str = "",
) -> list[StudyRun]:
    """Plan the missing runs; `done` is called with each run of the study.

    A run whose states were removed and whose results are kept is planned again only if its states are
    needed: with `needs_states`, those of all runs; otherwise those of the original, if a new run takes
    its rows. With `setting`, results are kept ones only if they have this setting of the probe. `hold` and
    `free` are those of `vsp.utils.signals.Stop`. Raises RunError, naming all of them,
    for runs with other settings.
    """
    found = find_runs(study, base, work, setting)
    new = [one for one in found if one.run is None and (needs_states or not one.kept)]
    if any(one.request.rows_of is not None for one in new):
        new = [one for one in found if one in new or (one.role == ORIGINAL and one.run is None)]
    checked, planned = CheckedDatasets(), dict[str, StudyRun]()
    for one in found:
        if one not in new:
            done(one)
        elif one.role not in planned:
            with free():
                written = _plan(one, found, new, work, hold, checked)
            for role, run in written.items():
                planned[role] = run
                done(run)
    return [planned.get(one.role, one) for one in found]


def _plan(
    one: StudyRun,
    found: Sequence[StudyRun],
    new: Sequence[StudyRun],
    work: Path,
    hold: Callable[[], None],
    checked: CheckedDatasets,
) -> dict[str, StudyRun]:
    """Plan a run, and the other new ones that show its pictures: role → the run."""
    by_name = {other.name: other for other in found}
    waiting = next((other.run for other in found if _waits_for(other, one)), None)
    if waiting is not None:
        members = [member.name for member in waiting.plan.together]
        unknown = [name for name in members if name not in by_name]
        if unknown:
            raise RunError(
                f"{one.name}: is lost, and run {waiting.name} is extracted together with it and with "
                f"{', '.join(unknown)}, which the study's file no longer has; remove run {waiting.name} too"
            )
        requests = [by_name[name].request for name in members]
        written = plan_again(requests, waiting, work, hold, checked)
    else:
        leader = _SAME_PICTURES.get(one.role)
        first = next((other for other in new if other.role == leader), one)
        same = [other for other in new if _SAME_PICTURES.get(other.role) == first.role]
        requests = [other.request for other in (first, *same)]
        written = plan_together(requests, work, hold, checked)
        written = [_with_planned(got, by_name[got.run.name], found, new) for got in written]
    runs = [replace(by_name[got.run.name], run=got.run, planned=got, kept=False) for got in written]
    return {run.role: run for run in runs}


def _with_planned(
    got: Planned, one: StudyRun, found: Sequence[StudyRun], new: Sequence[StudyRun]
) -> Planned:
    """A new run with a note if a run that shows its pictures is planned already."""
    leader = _SAME_PICTURES.get(one.role, one.role)
    before = [
        other.name
        for other in found
        if other not in new and leader in (other.role, _SAME_PICTURES.get(other.role))
    ]
    if not before or got.run.plan.together:
        return got
    note = f"extracted alone, not together with {', '.join(before)}: planned before"
    return replace(got, notes=(*got.notes, note))


def _waits_for(other: StudyRun, one: StudyRun) -> bool:
    """Whether rows of a planned run are missing that are extracted together with a lost one."""
    if other.run is None or one.name not in {member.name for member in other.run.plan.together}:
        return False
    return any(ledger.n_missing for ledger in other.run.ledgers())


def find_runs(study: Study, base: PlanRequest, work: Path, setting: str = "") -> list[StudyRun]:
    """The runs of a study that are planned, and those that are not. Writes nothing.

    `setting`: that of the probe which kept results need; empty: any.

    Raises RunError, naming all of them, for runs with other settings.
    """
    found, problems = [], []
    for role, name in study.runs.items():
        request = role_request(study, role, base, work)
        try:
            run = _planned(name, request, work)
            kept = run is None and _has_results(name, request, work, setting)
        except RunError as error:
            problems.append(str(error))
            continue
        found.append(StudyRun(role, name, request, run, kept=kept))
    if problems:
        raise RunError(
            f"{study_path(study.name, work)}: {len(problems)} of {len(study.runs)} runs are not those "
            f"of this file; remove them (`vsp rm RUN --results`), or give the file another name",
            problems,
        )
    return found


def _planned(name: str, request: PlanRequest, work: Path) -> Run | None:
    """The run of this name; None if there is none. Raises RunError if it has other settings."""
    folder = work / "scratch" / name
    if not os.path.lexists(folder):
        return None
    run = Run.open(folder)
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        if read_json(folder / RECORD).get("sha256") == request_key(request):
            run.check_checkpoint(fingerprint(run.plan.model))
            return run
    why = _difference(run.plan, request) or "was planned with other options, or of other records"
    raise RunError(f"run {name}: {why}")


def _has_results(name: str, request: PlanRequest, work: Path, setting: str) -> bool:
    """Whether results of the run are there. Raises RunError if they are of another plan."""
    for one in stored_settings(work / "results" / name):
        if setting and one.name != setting:
            continue
        with suppress(ConfigError):
            plan = parse(Plan, one.values.get("plan"), str(one.results.folder))
            if why := _difference(plan, request):
                raise RunError(f"results of {name}: {why}")
            return True
    return False


def _difference(plan: Plan, request: PlanRequest) -> str:
    """The first of dataset, model and prompt in which a plan and a request differ; empty if none."""
    dataset = os.path.abspath(request.dataset)  # noqa: PTH100 - links stay links
    model = pinned(request.model)
    if plan.dataset != dataset:
        return f"its dataset is {plan.dataset}, not {dataset}"
    if plan.model.model_copy(update={"frame": ""}) != model.model_copy(update={"frame": ""}):
        return "its model has another checkpoint or other options"
    if request.prompt not in (None, plan.prompt):
        return f"its prompt is {plan.prompt}, not {request.prompt}"
    return ""
