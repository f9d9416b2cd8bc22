"""A run on disk: `scratch/NAME/` with its plan, manifest, store and journals."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.choices import LAST, POSITIONS
from vsp.config import NAME_PATTERN, parse
from vsp.errors import ConfigError, RunError
from vsp.storage.array import Store
from vsp.storage.effects import CHANGES, DONORS, TARGETS, Effects
from vsp.storage.ledger import Ledger, read_ledgers
from vsp.storage.manifest import Manifest, Sample
from vsp.storage.plan import EFFECTS, FORMAT, READABLE, Plan, is_date, states_name
from vsp.utils.files import json_matches, sha256
from vsp.utils.looked_in import nothing_in
from vsp.utils.reading import open_regular, read_json, unreadable
from vsp.utils.spelling import nearest_names

_READ_FORMATS = " and ".join(map(str, READABLE))
# A plan.json may come from a stranger.
_MIN_ROW = 100  # bytes of a row in the manifest; the names of its keys alone take more


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows start, …, stop - 1, which one array task computes."""

    index: int
    start: int
    stop: int


class Run:
    """A planned run; the only class that knows the layout of its folder."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        # The folder's name, which `mv` and `cp` change; the plan keeps the name of the first one.
        self.name = Path(os.path.abspath(folder)).name  # noqa: PTH100 - links stay links

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run.

        Raises RunError unless the folder has a name of a run and holds a plan that this version can
        read.
        """
        path = folder / "plan.json"
        try:
            values = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{folder}: is no run; `vsp plan` makes one") from None
        except OSError as error:
            raise RunError(f"{path}: {unreadable(error)}; name a run") from None
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: is not JSON ({error}); plan the run again") from None
        file_format = values.get("format") if isinstance(values, dict) else None
        if file_format not in READABLE:
            raise RunError(f"{path}: {_other_format(file_format)}")
        digest = values.pop("sha256", None)
        if not json_matches(values, digest):
            raise RunError(f"{path}: was edited; plan the run again")
        try:
            run = cls(folder, parse(Plan, values, str(path)))
        except ConfigError as error:
            raise RunError(f"{error}; plan the run again") from None
        n_rows, n_bytes = run.plan.n_samples, run.plan.manifest_offsets[-1]
        if n_bytes < n_rows * _MIN_ROW:
            raise RunError(
                f"{path}: n_samples is {n_rows:,}, more rows than a manifest of {n_bytes:,} bytes "
                "holds; plan the run again"
            )
        if not re.fullmatch(NAME_PATTERN, run.name):
            raise RunError(
                f"{folder}: {run.name!r} is not a name of a run; rename the folder with letters, "
                "digits, '.', '_' and '-' only"
            )
        return run

    @property
    def results(self) -> Path:
        """`results/NAME` beside the `scratch/` that holds the run.

        Raises RunError if the run lies in a folder of another name.
        """
        folder = self.folder
        if folder.name != self.name or folder.parent.name != "scratch":
            folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay links
        if folder.parent.name != "scratch":
            raise RunError(
                f"{self.folder}: lies in no folder named scratch, so its results have no place; "
                f"move it to scratch/{self.name}"
            )
        return folder.parent.parent / "results" / self.name

    @property
    def shards(self) -> list[Shard]:
        bounds = [*self.plan.shard_starts, self.plan.n_samples]
        return [Shard(i, start, stop) for i, (start, stop) in enumerate(pairwise(bounds))]

    def shard(self, index: int) -> Shard:
        """Raises RunError if the run has no such shard."""
        if index >= len(self.plan.shard_starts):
            raise RunError(f"run {self.name}: has no shard {index}; it has {len(self.shards)}")
        return self.shards[index]

    @cached_property
    def stores(self) -> dict[str, Store]:
        """The arrays by name, which is also that of the file: states, states-subject, answers, …"""
        folder, identity = self.folder.absolute(), self.plan.identity()
        return {
            name: Store(folder / f"{name}.npy", layout, identity)
            for name, layout in self.plan.layouts().items()
        }

    @property
    def store(self) -> Store:
        """The states of the last token. Raises RunError if the run has none."""
        return self.states(LAST)

    def states(self, position: str = LAST) -> Store:
        """The states at a position. Raises RunError if the run does not have them."""
        self.require_states()
        if position not in self.plan.stored_positions:
            has = ", ".join(self.plan.stored_positions)
            more = (
                f"; `vsp plan --positions {position}` records it" if position in POSITIONS else ""
            )
            raise RunError(
                f"run {self.name}: position {position!r} was not recorded; it has {has}{more}"
            )
        return self.stores[states_name(position)]

    def effects(self) -> NDArray[np.float32]:
        """Log-likelihoods `[layer, setting, sample, option]` of an effects run; a view of the file.

        They are NaN where a row has fewer options, and 0 or older values in rows that are not done.
        Raises RunError if the run holds states.
        """
        effects, answers = self.of_effects(), self.plan.answers
        n_options = 0 if answers is None else answers.n_options
        stored = self.stores[EFFECTS].layer(0)[:, : n_options * effects.n_values]
        shape = len(stored), n_options, len(effects.layers), len(effects.settings)
        values: NDArray[np.float32] = stored.reshape(shape).transpose(2, 3, 0, 1)
        return values

    def effect_targets(self) -> NDArray[np.int64]:
        """Index of each row's target option [sample]; -1: the row has none.

        Raises RunError if the run holds states, or if changes.npz is not that of the plan.
        """
        targets = self.changes((TARGETS,)).get(TARGETS)
        if targets is None or targets.shape != (self.plan.n_samples,) or targets.dtype.kind != "i":
            raise RunError(
                f"{self.folder / CHANGES}: has no target for each row; plan the run again"
            )
        return targets.astype(np.int64)

    def changes(self, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of changes.npz by name; with `only`, those among them that exist.

        Raises RunError if the run holds states, or if the file is not that of the plan.
        """
        from vsp.storage.npz import ArraysError, read_arrays  # few commands open these files

        path, effects = self.folder / CHANGES, self.of_effects()
        try:
            with open_regular(path) as file:
                if sha256(file) != effects.changes_sha256:
                    raise RunError(f"{path}: was changed since the plan; plan the run again")
                return read_arrays(file, only)
        except OSError as error:
            raise RunError(f"{path}: {unreadable(error)}; plan the run again") from None
        except ArraysError as error:
            raise RunError(f"{path}: {error}; plan the run again") from None

    def of_effects(self) -> Effects:
        """What an effects run computes. Raises RunError if the run holds states."""
        if self.plan.effects is None:
            raise RunError(
                f"run {self.name}: holds states, no effects; `vsp steer {self.name}` plans a run of them"
            )
        return self.plan.effects

    def require_states(self, command: str = "") -> None:
        """Raise RunError if this is an effects run, which `command` cannot work on."""
        effects = self.plan.effects
        if effects is not None:
            cannot = f", so `vsp {command}` cannot work on it" if command else ""
            raise RunError(
                f"run {self.name}: holds effects of `vsp {effects.command}` and no states{cannot}; "
                f"name run {effects.run}, or see the effects with `vsp effects --run {self.name}`"
            )

    def number_of_states(self, position: str) -> int:
        """The index of the states at a position among the arrays of the run."""
        return list(self.stores).index(states_name(position))

    def check_stores(self) -> None:
        """Raise StoreError unless all arrays belong to the plan."""
        for store in self.stores.values():
            store.check()

    @property
    def journals(self) -> Path:
        return self.folder / "journal"

    @cached_property
    def manifest(self) -> Manifest:
        plan = self.plan
        starts = (*plan.shard_starts, plan.n_samples)
        path = self.folder / "manifest.jsonl"
        most = 0 if plan.answers is None else plan.answers.n_options
        return Manifest(path, starts, plan.manifest_offsets, plan.manifest_sha256, most)

    @cached_property
    def donors(self) -> Manifest:
        """The paired row of each row of a patch. Raises RunError if the run holds states."""
        effects, manifest = self.of_effects(), self.manifest
        return Manifest(
            self.folder / DONORS, manifest.starts, effects.donor_offsets, effects.donor_sha256
        )

    def samples(self, shard: Shard) -> list[Sample]:
        """The shard's samples. Raises RunError if they were changed since the plan."""
        return list(self.manifest.rows(shard.start, shard.stop))

    def all_samples(self) -> list[Sample]:
        """The samples of all rows. Raises RunError if they were changed since the plan."""
        return list(self.manifest.rows())

    def require_planned(self, command: str) -> None:
        """Raise RunError if the states were imported, so that a command has nothing to compute."""
        if self.plan.imported is not None:
            raise RunError(
                f"run {self.name}: its states were imported from {self.plan.dataset} and are not "
                f"computed here, so `vsp {command}` cannot work on it; `vsp probe` and `vsp verify` can"
            )

    def check_checkpoint(self, files: Mapping[str, str]) -> None:
        """Raise RunError if the checkpoint's files were changed since the plan.

        `files` is the result of `vsp.models.fingerprint.fingerprint`.
        """
        planned = self.plan.checkpoint_files
        for name in sorted({*planned, *files}):
            if planned.get(name) != files.get(name):
                new_or_changed = "was changed" if name in planned else "is new"
                what = new_or_changed if name in files else "is gone"
                raise RunError(
                    f"run {self.name}: {name} of checkpoint {self.plan.model.checkpoint!r} {what} "
                    "since the plan; put back what was there, or plan the run again"
                )

    def ledger(self, shard: Shard) -> Ledger:
        return self.ledgers([shard])[0]

    def ledgers(self, shards: Sequence[Shard] | None = None) -> list[Ledger]:
        """The ledgers of `shards` (None: all), in their order; lists the folder only once."""
        shards = self.shards if shards is None else shards
        bounds = {shard.index: (shard.start, shard.stop) for shard in shards}
        return read_ledgers(self.journals, self.plan.id, bounds, len(self.stores))


def _other_format(file_format: object) -> str:
    if not isinstance(file_format, int):
        return f"has format {file_format!r}, this vsp reads {_READ_FORMATS}; plan the run again"
    age, then = (
        ("an older", "plan the run again") if file_format < FORMAT else ("a newer", "update vsp")
    )
    return (
        f"was planned by {age} vsp (format {file_format}, this one reads {_READ_FORMATS}); {then}"
    )


def find_run(name: str | None, work: Path) -> Run:
    """The run of that name or path; None: the newest in `scratch/`. Raises RunError if none."""
    if name is not None and ("/" in name or name in (".", "..")):
        return Run.open(_in_scratch(Path(name), work))
    if name is not None:
        folder = work / "scratch" / name
        known = [path.parent.name for path in (work / "scratch").glob("*/plan.json")]
        if not os.path.exists(folder):  # noqa: PTH110 - False for a name that is too long
            advice = close_names(name, known)
            if os.path.lexists(work / "results" / name):
                advice = f"its states were removed; `vsp report {name}` shows its results"
                raise RunError(f"{folder}: no such run; {advice}")
            if not known:
                advice = nothing_in(work / "scratch", "run", "make one with `vsp plan`")
            raise RunError(f"{folder}: no such run; {advice}")
        return Run.open(folder)
    plans = list((work / "scratch").glob("*/plan.json"))
    if not plans:
        raise RunError(nothing_in(work / "scratch", "run", "make one with `vsp plan`"))
    return Run.open(newest(plans).parent)


def _in_scratch(folder: Path, work: Path) -> Path:
    """The run's path below `work / "scratch"`, which may be a link, if it lies there."""
    below = work / "scratch" / folder.absolute().name
    with suppress(OSError, ValueError):
        if below.samefile(folder):
            return below
    return folder


def newest(paths: Collection[Path]) -> Path:
    """The one of these files plan.json or summary.json whose plan is the newest.

    Of copies, it is the one in the folder that has the plan's name.
    """
    return max(paths, key=_age)


def _age(path: Path) -> tuple[int, bool, int]:
    """Second of the plan, whether its folder has its name, and when the file was written."""
    written = path.stat().st_mtime_ns
    folders = path.parent.name, path.parent.parent.name  # results have a folder for each setting
    with suppress(OSError, ValueError, RecursionError):
        values = read_json(path)
        plan = values.get("plan", values) if isinstance(values, dict) else None
        if isinstance(plan, dict) and is_date(created := str(plan.get("created"))):
            planned = datetime.fromisoformat(created).timestamp()
            return int(planned), plan.get("name") in folders, written
    return written // 10**9, True, written  # an unreadable plan is opened in its turn, and named


def close_names(name: str, known: Collection[str]) -> str:
    """Up to three known names to write in place of an unknown one, similar ones if there are any."""
    if not known:
        return "`vsp plan` makes a run"
    nearest = nearest_names(name, known) or sorted(known)[:3]
    more = ", …" if len(known) > len(nearest) else ""
    return f"there is {', '.join(nearest)}{more}"
