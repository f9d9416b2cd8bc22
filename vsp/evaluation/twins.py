"""Pairs of rows of a run and its swapped twin, which exchanges subject and reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.datasets import VARIANTS
from vsp.datasets.relations import INVERSE
from vsp.errors import RunError
from vsp.evaluation.matched_runs import joint_groups
from vsp.storage.axes import Axis
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan
from vsp.storage.run import Run

Indices = NDArray[np.intp]
SWAPPED = "swapped"
ONLY_ONE, NOT_DONE, NO_INVERSE, OWN_INVERSE, ONE_GROUP = (
    "in one run only",
    "not extracted in both runs",
    "label without an inverse",
    "label that is its own inverse",
    "axis in one group only",
)
_ORDER = list(INVERSE)  # the label of a pair that comes first has sign +1


@dataclass(frozen=True, slots=True)
class Twins:
    """Pairs of rows in the order of groups and kinds, each array [pair]."""

    row: Indices  # in the run
    other: Indices  # in its twin
    kind: Indices  # 2 × axis, + 1 if the row has the second label of the axis
    group: Indices
    axes: tuple[Axis, ...]
    left_out: Mapping[str, int]  # reason → rows

    @property
    def n_groups(self) -> int:
        return int(self.group[-1]) + 1


def match_twins(run: Run, swapped: Run, position: str) -> Twins:
    """The pairs of rows that both runs have extracted, whose labels are each other's inverse.

    Raises RunError if the runs are not a run and its swapped twin, or if no pair is left.
    """
    _check_plans(run, swapped, position)
    first, other = ({one.id: (i, one) for i, one in enumerate(r.all_samples())}
                    for r in (run, swapped))  # fmt: skip
    shared = [name for name in first if name in other]
    if not shared:
        raise RunError(
            f"{_both(run, swapped)}: have no row id in common; name a run and the run of its dataset's "
            "swapped variant"
        )
    done = [set(np.concatenate([one.rows_done for one in r.ledgers()]).tolist())
            for r in (run, swapped)]  # fmt: skip
    left_out: Counter[str] = Counter()
    left_out[ONLY_ONE] = len(first) + len(other) - 2 * len(shared)
    inverse = VARIANTS.load(SWAPPED).change_label
    kept = []
    for name in shared:
        (i, sample), (j, twin) = first[name], other[name]
        why = _check_pair(run, swapped, sample, twin, inverse)
        if i not in done[0] or j not in done[1]:
            why = NOT_DONE
        if why:
            left_out[why] += 1
        else:
            kept.append((i, j, sample, twin))
    return _ordered(run, swapped, kept, left_out)


def _check_pair(
    run: Run, swapped: Run, sample: Sample, twin: Sample, inverse: Callable[[str], str | None]
) -> str:
    """Why a pair has no axis; empty if it has one. Raises RunError if it is no pair of twins."""
    expected = inverse(sample.label)
    if expected is None:
        return NO_INVERSE
    problem = ""
    if twin.label != expected:
        problem = f"has the labels {sample.label!r} and {twin.label!r}, which are not inverses of each other"
    elif sample.image_sha256 and twin.image_sha256 and sample.image_sha256 != twin.image_sha256:
        problem = "is about different pictures"
    elif sample.subject and (sample.subject, sample.reference) != (twin.reference, twin.subject):
        problem = "does not exchange subject and reference"
    if problem:
        raise RunError(
            f"{_both(run, swapped)}: are not twins, row {sample.id!r} {problem}; make the twin's dataset "
            "with `vsp generate --of DATASET --variant swapped`"
        )
    return OWN_INVERSE if expected == sample.label else ""


def _ordered(
    run: Run,
    swapped: Run,
    pairs: Sequence[tuple[int, int, Sample, Sample]],
    left_out: Counter[str],
) -> Twins:
    """The pairs with their axes and groups, without axes that lie in one group."""
    labels = [sample.label.replace(" ", "_") for _, _, sample, _ in pairs]
    firsts = sorted(
        {min(name, INVERSE[name], key=_ORDER.index) for name in labels}, key=_ORDER.index
    )
    number = {name: 2 * i for i, name in enumerate(firsts)}
    number |= {INVERSE[name]: kind + 1 for name, kind in number.items()}
    kind = np.array([number[name] for name in labels], np.intp)
    group = np.zeros(0, np.intp)
    if pairs:
        names = (np.array([pair[side].group for pair in pairs]) for side in (2, 3))  # type: ignore[union-attr]
        group = joint_groups(*names)
    in_axis = [kind // 2 == i for i in range(len(firsts))]
    wide = [i for i, rows in enumerate(in_axis) if len(np.unique(group[rows])) > 1]
    kept = np.isin(kind // 2, wide)
    left_out[ONE_GROUP] = int((~kept).sum())
    if not kept.any():
        raise RunError(
            f"{_both(run, swapped)}: no pair of rows is left ({_counted(left_out)}); an axis needs rows "
            "in two groups or more whose labels have an inverse"
        )
    new_axis = np.cumsum(np.isin(np.arange(len(firsts)), wide)) - 1
    kind = 2 * new_axis[kind // 2] + kind % 2
    group = np.unique(group[kept], return_inverse=True)[1]
    row, other = (np.array([pair[side] for pair in pairs], np.intp)[kept] for side in (0, 1))
    kind, order = kind[kept], np.lexsort((row, kind[kept], group))
    axes = tuple(
        Axis(
            firsts[one],
            INVERSE[firsts[one]],
            int((kind == 2 * i).sum()),
            int((kind == 2 * i + 1).sum()),
            len(np.unique(group[kind // 2 == i])),
        )
        for i, one in enumerate(wide)
    )
    left = {why: n for why, n in left_out.items() if n}
    return Twins(row[order], other[order], kind[order], group[order], axes, left)


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{why}: {n:,}" for why, n in left_out.items() if n)


def _both(run: Run, swapped: Run) -> str:
    return f"runs {run.name} and {swapped.name}"


def _check_plans(run: Run, swapped: Run, position: str) -> None:
    """Raise RunError unless both runs have the same model, prompt and position, and one is swapped."""
    if run.folder.resolve() == swapped.folder.resolve():
        raise RunError(f"run {run.name}: is named twice; name it and its swapped twin")
    stores = [one.states(position) for one in (run, swapped)]
    for what, value in _COMPARED.items():
        values = value(run.plan, position), value(swapped.plan, position)
        if values[0] != values[1]:
            shown = "" if what in _LONG else f" ({values[0] or 'none'} and {values[1] or 'none'})"
            raise RunError(
                f"{_both(run, swapped)}: are not twins, they differ in {what}{shown}; plan both with the "
                "same options"
            )
    variants = [list(one.plan.variants) for one in (run, swapped)]
    less, more = sorted(variants, key=len)
    if less != more and sorted([*less, SWAPPED]) != sorted(more):
        names = [", ".join(one) or "none" for one in variants]
        raise RunError(
            f"{_both(run, swapped)}: are not twins, their dataset variants are {names[0]} and {names[1]}; "
            "name a run and the run of its dataset's swapped variant"
        )
    for store in stores:
        store.check()


_LONG = ("checkpoint files", "chat template", "layers of the imported states")
_COMPARED: Mapping[str, Callable[[Plan, str], Any]] = {
    "model": lambda plan, _: plan.model.family,
    "checkpoint files": lambda plan, _: plan.checkpoint_files,
    "adapter": lambda plan, _: Path(plan.model.adapter or "").name,
    "weights": lambda plan, _: plan.model.weights,
    "quantization": lambda plan, _: plan.model.quantized_as,
    "data type": lambda plan, _: plan.compute_dtype,
    "model options": lambda plan, _: plan.model.options,
    "prompt": lambda plan, _: plan.prompt,
    "template": lambda plan, _: plan.model.template,
    "chat template": lambda plan, _: plan.model.frame,
    "number of layers": lambda plan, position: len(plan.convention(position).layers),
    "layers of the imported states": lambda plan, position: plan.convention(position),
    "hidden size": lambda plan, _: plan.hidden_size,
    "stored data type": lambda plan, _: plan.dtype,
}
