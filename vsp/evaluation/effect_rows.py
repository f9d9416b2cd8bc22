"""The rows of an effects run, and the option that each is moved towards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.evaluation.answers import name_options
from vsp.storage.effects import NO_TARGET
from vsp.storage.manifest import Sample
from vsp.storage.run import Run
from vsp.utils.text import format_count


@dataclass(frozen=True, slots=True)
class EffectRows:
    """Rows of a run, in its order, and the option that each is moved towards."""

    row: NDArray[np.intp]
    target: NDArray[np.int64]  # index among the row's options; -1: it has none
    notes: tuple[str, ...]


def next_label(labels: Sequence[str]) -> dict[str, str]:
    """The next label of each label; the first one follows the last, so that each is a target."""
    return {own: labels[(k + 1) % len(labels)] for k, own in enumerate(labels)}


def choose_rows(
    run: Run,
    tested: NDArray[np.bool_],
    target_of: Callable[[int, Sample], str | None],
    most: int | None,
    seed: int,
) -> EffectRows:
    """The rows among `tested` [row of the run] that have a target, at most `most` of them.

    `target_of` gives the target label of a row; rows without one are left out, and counted in the
    notes. Fewer rows are whole groups, drawn from each label in turn.

    Raises RunError if no row is left.
    """
    answers, samples, targets = run.plan.answers, [], []
    numbers: list[int] = []
    n_tested = int(tested.sum())
    for number, sample in enumerate(run.all_samples()):
        target = target_of(number, sample) if tested[number] else None
        if target is not None:
            numbers.append(number)
            samples.append(sample)
            targets.append(target)
    notes = _left_out(n_tested - len(numbers), n_tested)
    if not numbers or answers is None:
        raise RunError(f"run {run.name}: none of {n_tested} test rows has a target; use more rows")
    drawn = np.arange(len(numbers)) if most is None else draw_rows(samples, most, seed)
    if len(drawn) < len(numbers):
        n_groups = len({samples[i].group for i in drawn})
        notes.append(
            f"{len(drawn):,} of {len(numbers):,} test rows, {format_count(n_groups, 'whole group')}"
        )
    texts = [answers.texts_of(samples[i]) for i in drawn]
    chosen = _option_of([targets[i] for i in drawn], texts, run.plan.labels, answers.n_options)
    if n_without := int((chosen == NO_TARGET).sum()):
        notes.append(f"the target of {format_count(n_without, 'row')} is none of the row's options")
    return EffectRows(np.array(numbers, np.intp)[drawn], chosen, tuple(notes))


def draw_rows(samples: Sequence[Sample], most: int, seed: int) -> NDArray[np.intp]:
    """Indices of at most `most` samples: whole groups in random order, from each label in turn.

    A group that does not fit any more is left out; the first one is taken whatever its size.
    """
    members: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        members.setdefault(sample.group, []).append(i)
    queues: dict[str, list[str]] = {}
    names = list(members)
    for k in np.random.default_rng([seed, 2]).permutation(len(names)).tolist():
        label = samples[members[names[k]][0]].label
        queues.setdefault(label, []).append(names[k])
    taken: list[int] = []
    for round_ in range(max(map(len, queues.values()), default=0)):
        for label in sorted(queues):
            group = members[queues[label][round_]] if round_ < len(queues[label]) else []
            if group and (not taken or len(taken) + len(group) <= most):
                taken += group
    return np.array(sorted(taken), np.intp)


def _left_out(n_left_out: int, n_tested: int) -> list[str]:
    if not n_left_out:
        return []
    return [f"{n_left_out:,} of {n_tested:,} test rows have no target and are left out"]


def _option_of(
    targets: Sequence[str], texts: Sequence[Sequence[str]], labels: Sequence[str], n_options: int
) -> NDArray[np.int64]:
    """The first option [row] that is the target label of a row; -1: none is."""
    index, names = name_options(texts, labels, n_options)
    code = np.array([names.index(target) if target in names else -2 for target in targets])
    same = index == code[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), NO_TARGET).astype(np.int64)


def pair_rows(run: Run, variant: Run) -> tuple[dict[int, int], list[str]]:
    """The row of the variant that has the id of each row of a run, and notes about rows without one.

    Raises RunError if the runs have no row in common, or if ids repeat.
    """
    both = f"runs {run.name} and {variant.name}"
    first, other = _by_id(run), _by_id(variant)
    paired = {row: other[name] for name, row in first.items() if name in other}
    if not paired:
        raise RunError(
            f"{both}: have no row id in common; name a run and the run of a variant of its dataset"
        )
    n_alone = len(first) - len(paired)
    notes = [f"{n_alone:,} rows have no paired row and are left out"] if n_alone else []
    return paired, notes


def _by_id(run: Run) -> dict[str, int]:
    samples = run.all_samples()
    rows = {sample.id: row for row, sample in enumerate(samples)}
    if len(rows) < len(samples):
        raise RunError(f"run {run.name}: ids repeat, so its rows cannot be paired")
    return rows


def check_pair(run: Run, variant: Run) -> None:
    """Raise RunError unless both runs have the same model, prompt and answers."""
    compared: Mapping[str, Callable[[Run], object]] = {
        "model": lambda one: one.plan.model,
        "checkpoint files": lambda one: one.plan.checkpoint_files,
        "prompt": lambda one: one.plan.prompt,
    }
    for what, value in compared.items():
        if value(run) != value(variant):
            raise RunError(
                f"runs {run.name} and {variant.name}: differ in {what}; plan both with the same options"
            )


def rows_to_test(samples: Iterable[Sample]) -> NDArray[np.bool_]:
    """The rows [row] that `vsp probe` holds out if the dataset has splits: test, or val without test.

    Without such rows all of them, as nothing is fitted.
    """
    splits = np.array([sample.split for sample in samples])
    for held_out in ("test", "val"):
        tested: NDArray[np.bool_] = splits == held_out
        if tested.any():
            return tested
    return np.ones(len(splits), np.bool_)


def other_label(
    tested: NDArray[np.bool_], samples: Sequence[Sample], label_of: Callable[[int], str]
) -> tuple[NDArray[np.bool_], list[str]]:
    """The rows among `tested` [row] whose paired row has another label, and a note about the others.

    `label_of` gives the label of a row's paired row. If no row has another label, as where a run is
    patched with itself, all rows are kept.
    """
    differs = np.array(
        [use and label_of(row) != samples[row].label for row, use in enumerate(tested)], np.bool_
    )
    n_tested, n_same = int(tested.sum()), int((tested & ~differs).sum())
    if not n_same:
        return tested, []
    note = f"{n_same:,} of {n_tested:,} rows have the label of their paired rows, and cannot move to another"
    if n_same == n_tested:
        return tested, [f"{note}; they are computed, and `vsp effects` leaves them out"]
    return differs, [f"{note}; they are left out"]
