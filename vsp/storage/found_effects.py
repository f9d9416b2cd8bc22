"""What interventions changed in the answers of a model, and the file that keeps it.

`results/NAME/effects.json`, of a run of `vsp steer` or `vsp patch`, holds the figures by
layer and setting, a format number and the SHA-256 of these values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.storage.sealed_json import listed, read_sealed, write_sealed

FORMAT = 1  # of the file; another one is not read
FILE = "effects.json"
STEER, PATCH, ERASE = "steer", "patch", "erase"
UNRELATED, RANDOM = "unrelated", "random-"  # names of the controls
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FoundSetting:
    """One change of the states, such as a direction at a scale; "none" is not among them."""

    name: str  # "direction", "unrelated", "random-1"; of a patch, the tokens; of an erasure, the method
    scale: float  # multiple of the direction; 1 for patches and erasures

    @property
    def is_random(self) -> bool:
        return self.name.startswith(RANDOM)

    @property
    def is_control(self) -> bool:
        return self.is_random or self.name == UNRELATED


@dataclass(frozen=True, eq=False)
class EffectFigures:
    """Figures [layer, setting]; NaN where undefined.

    The change of a row is that of log p(target) - log p(own label) against no intervention; of an
    erasure, that of the log odds of all other options against the own label.
    """

    change: Floats  # mean over rows
    change_low: Floats
    change_high: Floats
    flip: (
        Floats  # share of the open rows whose best option becomes the target (erased: another one)
    )
    flip_low: Floats
    flip_high: Floats
    n_open: Floats  # rows whose best option is not the target yet (erased: is the own label)
    excess: Floats  # change minus the mean over random settings of equal scale
    excess_low: Floats
    excess_high: Floats
    over_unrelated: Floats  # change minus that of the unrelated label
    over_unrelated_low: Floats
    over_unrelated_high: Floats
    rank: Floats  # of the change among those of the random settings; 1 is the largest
    p_random: Floats  # one-sided: the setting is one more random one
    p_random_corrected: Floats  # over layers and scales
    p: Floats  # two-sided, sign flips of groups: the excess (patched: the change) is 0
    p_corrected: Floats  # over layers and settings


@dataclass(frozen=True, eq=False)
class FoundEffects:
    """The effects of a run of interventions."""

    run: str
    identity: str  # of the plan of `run`
    rows_sha256: str  # of the rows and their log-likelihoods
    kind: str  # steer, patch or erase
    of_run: str  # whose states gave the changes
    of_identity: str  # of its plan
    variant: str  # patched: the run whose states were put in
    position: str  # of the changed tokens
    layers: tuple[int, ...]
    settings: tuple[FoundSetting, ...]
    n_done: int  # rows of the run with log-likelihoods
    n_rows: int  # rows that count
    n_groups: int
    left_out: Mapping[str, int]  # reason → rows
    confidence: float
    level: float  # of corrected p values
    resamples: int
    flips_limit: int
    seed: int
    figures: EffectFigures

    @property
    def tested(self) -> list[int]:
        """The settings that a claim can be about: no controls, in the direction of the target."""
        return [
            i for i, one in enumerate(self.settings) if one.scale > 0 and not one.is_control
        ]  # fmt: skip

    def n_random(self, scale: float) -> int:
        """The number of random settings of a scale."""
        return sum(one.is_random and one.scale == scale for one in self.settings)

    def passed(self) -> Flags:
        """The layers and settings [layer, setting] with an effect, of those in `tested`.

        Patched: the answer moves towards the label of the variant, at corrected p < level. Otherwise the
        change is above 0, and above that of the random settings: as one of them, and over groups of
        rows, both at corrected p < level.
        """
        figures = self.figures
        found = (figures.change_low > 0) & (figures.p_corrected < self.level)
        if self.kind != PATCH:
            beats = figures.p_random_corrected < self.level
            found &= beats & (figures.excess > 0)
        controls = [i for i in range(len(self.settings)) if i not in self.tested]
        found[:, controls] = False
        return np.asarray(found)

    @property
    def is_used(self) -> bool | None:
        """Whether the model uses what was changed in some layer; None: patches do not say."""
        return None if self.kind == PATCH else bool(self.passed().any())


def effects_file(home: Path) -> Path:
    """The file in `results/NAME/`."""
    return home / FILE


def write_effects(found: FoundEffects, home: Path) -> Path:
    """Write the effects to `results/NAME/` and return the path."""
    path = effects_file(home)
    write_sealed(path, FORMAT, effects_json(found))
    return path


def effects_json(found: FoundEffects) -> dict[str, Any]:
    """All figures as JSON; null where undefined."""
    values = {one.name: getattr(found, one.name) for one in fields(found)}
    figures = {one.name: getattr(found.figures, one.name) for one in fields(found.figures)}
    return {
        **values,
        "layers": list(found.layers),
        "settings": [asdict(one) for one in found.settings],
        "left_out": dict(found.left_out),
        "figures": {name: listed(array) for name, array in figures.items()},
    }


def read_effects(home: Path) -> FoundEffects | None:
    """The stored effects of a run; None if there are none.

    Raises RunError if the file cannot be read or was edited.
    """
    path = effects_file(home)
    again = f"run `vsp effects {home.absolute().name}` again"
    return read_sealed(path, FORMAT, "effects", again, _of_json)


def _of_json(values: dict[str, Any]) -> FoundEffects:
    """The effects. Raises an error that `read_sealed` catches if the values are others."""
    arrays = {name: np.array(array, np.float64) for name, array in values["figures"].items()}
    found = FoundEffects(
        **{
            **values,
            "figures": EffectFigures(**arrays),
            "layers": tuple(values["layers"]),
            "settings": tuple(FoundSetting(**one) for one in values["settings"]),
            "left_out": dict(values["left_out"]),
        }
    )
    shape = len(found.layers), len(found.settings)
    if not all(shape) or any(array.shape != shape for array in arrays.values()):
        raise ValueError("figures")
    _check_types(found)
    _check_ranges(found)
    return found


_TEXTS = ("run", "identity", "rows_sha256", "kind", "of_run", "of_identity", "variant", "position")
_LEAST_LEVEL = 1e-6  # a claim at this level needs a million random settings
_COUNTS = ("n_done", "n_rows", "n_groups", "resamples", "flips_limit", "seed")


def _check_types(found: FoundEffects) -> None:
    """Raise ValueError for values of other types than vsp writes; a file may come from a stranger."""
    of_setting = ((one.name, one.scale) for one in found.settings)
    is_right = (
        all(isinstance(getattr(found, name), str) for name in _TEXTS)
        and all(type(getattr(found, name)) is int for name in _COUNTS)
        and all(type(one) is int for one in (*found.layers, *found.left_out.values()))
        and all(isinstance(one, float) for one in (found.confidence, found.level))
        and all(isinstance(a, str) and isinstance(b, (int, float)) for a, b in of_setting)
        and found.kind in (STEER, PATCH, ERASE)
    )
    if not is_right:
        raise ValueError("types")


def _check_ranges(found: FoundEffects) -> None:
    """Raise ValueError for values from which no sentence can be made, such as a level of 0."""
    names = [(one.name, one.scale) for one in found.settings]
    ranks = found.figures.rank[found.passed()] if found.kind != PATCH else np.ones(1)
    is_right = (
        0.0 < found.confidence < 1.0
        and _LEAST_LEVEL <= found.level < 1.0
        and all(low < high for low, high in pairwise((-1, *found.layers)))
        and len(set(names)) == len(names)
        and all(isfinite(scale) for _, scale in names)
        and all(getattr(found, name) >= 0 for name in _COUNTS)
        and bool(np.isfinite(ranks).all())
    )
    if not is_right:
        raise ValueError("ranges")


def effects_about(home: Path, identity: str | None) -> tuple[list[FoundEffects], list[str]]:
    """The effects of interventions on a run, and why others are not shown.

    `home` is its `results/RUN/`, `identity` that of the plan of its results. Files of all runs in
    `results/` are read; those about an earlier plan of the run, and damaged ones, are named.
    """
    found: list[FoundEffects] = []
    problems: list[str] = []
    for folder in _homes_with_effects(home):
        try:
            one = read_effects(folder)
        except RunError as error:
            problems.append(str(error))
            continue
        if one is not None and one.of_identity == identity:
            found.append(one)
        elif one is not None and one.of_run == home.absolute().name:
            problems.append(
                f"effects of {folder.name}: stale: they are about an earlier plan of {one.of_run}"
            )
    return found, problems


def _homes_with_effects(home: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(path.parent for path in home.absolute().parent.glob(f"*/{FILE}"))
