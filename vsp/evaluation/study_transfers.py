"""The probes of a study's original, judged on its other runs: `results/NAME/transfers.json`.

The targets are the mirrored and the swapped variant and the other datasets. Figures are kept with
the digest of the probes and the identity of the target, so that only what changed is judged again,
and they are read without the states of any run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from vsp.config import Frozen
from vsp.datasets.relations import Relations, read_relations
from vsp.errors import RunError, VspError
from vsp.evaluation.matched_labels import TABLES
from vsp.evaluation.target_states import open_target
from vsp.evaluation.trained_probes import read_trained
from vsp.evaluation.transfer import Transfer, TransferSettings, transfer
from vsp.storage.results import Results
from vsp.storage.run import Run
from vsp.storage.sealed_summary import SUMMARY
from vsp.storage.study import ON, ORIGINAL, Study, results_folder
from vsp.storage.study_record import role_results
from vsp.utils.files import json_matches, json_sha256, sha256, write_json
from vsp.utils.reading import open_regular, read_json, unreadable

FORMAT = 1  # of the file; another one is not read
_FILE = "transfers.json"
_VARIANTS = ("mirrored", "swapped")
_TRANSFER = TypeAdapter(Transfer)


class _Stored(Frozen):
    """Figures on one target, and what they were made from."""

    probes: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # SHA-256 of the summary of the results
    target: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # identity of the plan
    n_done: int  # rows of the target with states
    figures: Mapping[str, Any] | None  # None: not judged
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class StudyTransfers:
    """What is stored about each target, by role."""

    transfers: Mapping[str, Transfer] = field(default_factory=dict)
    not_judged: Mapping[str, str] = field(default_factory=dict)  # role → reason
    older: tuple[str, ...] = ()  # roles whose figures are of earlier probes
    problem: str = ""  # why the file cannot be read


def target_roles(study: Study) -> list[str]:
    """The runs that the probes of the original are judged on."""
    return [one for one in study.runs if one in _VARIANTS or one.startswith(f"{ON}-")]


def are_judged(study: Study, work: Path) -> bool:
    """Whether the present probes have judged all targets; those that cannot be judged count."""
    with suppress(RunError):
        stored, digest = _read(study, work), _digest(study, work)
        known = stored is not None and stored.keys() >= {*target_roles(study)}
        return known and all(one.probes == digest for one in (stored or {}).values())
    return False


def judge_targets(study: Study, work: Path, say: Callable[[str], None]) -> None:
    """Judge the targets whose figures are not there or are of an earlier state, and store all.

    A target that cannot be judged is stored with the reason. Nothing is done while the original has no
    results. Raises RunError if a file cannot be read.
    """
    digest = _digest(study, work)
    if not digest:
        return
    results = role_results(study, ORIGINAL, work)
    stored = _read(study, work) or {}
    found: dict[str, _Stored] = {}
    for role in target_roles(study):
        before = stored.get(role)
        run = _run(study, role, work)
        if run is None:
            if before is not None:
                found[role] = before
            continue
        state = digest, run.plan.identity(), sum(one.n_done for one in run.ledgers())
        if before is not None and (before.probes, before.target, before.n_done) == state:
            found[role] = before
            continue
        found[role] = _judge(results, run, state, work)
        why = found[role].why_not
        say(
            f"{run.name}: {f'not judged: {why}' if why else 'the probes of the original are judged on it'}"
        )
    if found != stored or not stored:
        _write(study, found, work)


def read_transfers(study: Study, work: Path) -> StudyTransfers:
    """What is stored; from `results/` alone. Raises nothing for a file that cannot be read."""
    try:
        stored = _read(study, work) or {}
        digest = _digest(study, work)
    except RunError as error:
        return StudyTransfers(problem=str(error))
    transfers, not_judged, older = {}, {}, []
    for role in target_roles(study):
        one = stored.get(role)
        if one is None:
            continue
        if one.figures is None:
            not_judged[role] = one.why_not
            continue
        transfers[role] = _TRANSFER.validate_python(one.figures)
        if one.probes != digest:
            older.append(role)
    return StudyTransfers(transfers, not_judged, tuple(older))


def _judge(results: Results, run: Run, state: tuple[str, str, int], work: Path) -> _Stored:
    figures, why = None, ""
    try:
        trained = read_trained(results.name, results)
        target = open_target(run.name, work, trained.position, partial=True)
        tables = cache(lambda: _tables(work))
        figures = asdict(transfer(trained, target, tables, TransferSettings()))
    except VspError as error:
        why = str(error)
    probes, identity, n_done = state
    return _Stored(probes=probes, target=identity, n_done=n_done, figures=figures, why_not=why)


def _tables(work: Path) -> list[Relations]:
    return [read_relations(name, work) for name in TABLES]


def _run(study: Study, role: str, work: Path) -> Run | None:
    with suppress(RunError):
        return Run.open(work / "scratch" / study.runs[role])
    return None


def _digest(study: Study, work: Path) -> str:
    """SHA-256 of the summary of the original's results, which has those of all its files; or empty."""
    with suppress(VspError, OSError):
        results = role_results(study, ORIGINAL, work)
        with open_regular(results.folder / SUMMARY) as file:
            return sha256(file)
    return ""


def _write(study: Study, stored: Mapping[str, _Stored], work: Path) -> None:
    values = {role: one.model_dump(mode="json") for role, one in stored.items()}
    whole = {"format": FORMAT, "study": study.name, "targets": values}
    write_json(results_folder(study.name, work) / _FILE, {**whole, "sha256": json_sha256(whole)})


def _read(study: Study, work: Path) -> dict[str, _Stored] | None:
    """The stored figures by role; None without a file. Raises RunError for a damaged one."""
    path = results_folder(study.name, work) / _FILE
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{path}: {unreadable(error)}; remove it") from None
    except (ValueError, RecursionError):
        raise RunError(f"{path}: is damaged; {_again(study)}") from None
    digest = values.pop("sha256", None) if isinstance(values, dict) else None
    if not json_matches(values, digest) or values.get("format") != FORMAT:
        raise RunError(f"{path}: is not what vsp wrote; {_again(study)}")
    try:
        stored = {role: _Stored.model_validate(one) for role, one in values["targets"].items()}
        for one in stored.values():
            if one.figures is not None:
                _TRANSFER.validate_python(one.figures)
    except (ValidationError, KeyError, AttributeError):
        raise RunError(f"{path}: is not what vsp wrote; {_again(study)}") from None
    return stored


def _again(study: Study) -> str:
    return f"remove it, then `vsp study {study.name} --finish` makes it again"
