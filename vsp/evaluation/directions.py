"""Directions that `vsp steer` adds to hidden states: from a row's own label towards its target.

mean-difference   mean of the states of the target's training rows, minus that of the own label's
                  (Marks and Tegmark 2024, arXiv:2310.06824)
probe             the difference of the two labels' weights of the saved linear probe, in the
                  coordinates of the raw states, with the norm of the mean difference
a file            directions by layer, see `vsp.evaluation.direction_file`

Controls have the norm of the direction, layer by layer and pair by pair. `unrelated` is the mean
difference of two values of an unrelated label. The random directions of a layer are all its
directions turned together by a random rotation, so that their angles are the same too.

Everything is fitted on training rows (`vsp.evaluation.divided_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ConfigError, ProbeError
from vsp.evaluation.direction_file import read_direction_file
from vsp.evaluation.divided_rows import DividedRows, divide_rows, require_same_rows, settings_of
from vsp.evaluation.judges import FINAL
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.evaluation.record_fields import run_field
from vsp.evaluation.trained_probes import TrainedProbes, read_trained
from vsp.probes.linear_probe import LinearProbe
from vsp.probes.treatment import row_slices
from vsp.storage.changes import Directions, with_random
from vsp.storage.random_changes import random_names, with_norms
from vsp.storage.run import Run
from vsp.storage.stored_settings import choose_setting
from vsp.utils.spelling import unknown_name
from vsp.utils.text import format_ranges

MEAN_DIFFERENCE, PROBE = "mean-difference", "probe"
DIRECTION, UNRELATED = "direction", "unrelated"
_FEWEST = 5  # training rows of a value of an unrelated field

Floats = NDArray[np.float64]


def steering_directions(
    run: Run,
    *,
    layers: Sequence[int],
    position: str,
    kind: str,
    target: str | None = None,
    n_random: int = 20,
    unrelated: str | None = None,
    seed: int = 0,
    probe: str | None = None,
    settings: ProbeSettings | None = None,
    partial: bool = False,
) -> Directions:
    """The directions and their controls, from the states at a position of the training rows.

    `kind` is probe, mean-difference or the path of a file. `target`: a label, to which all rows
    with another label are steered; None: the next label in the order of labels, so that each is a
    target. `unrelated`: a field of the dataset's records; None: the labels of the run's first
    control task. `probe`: the setting whose saved probes are read; None: the newest. `settings`
    decide the training rows (default: as `vsp probe` without options); saved probes bring their
    own.

    Raises ConfigError for an unknown label, field or file, RunError if rows or results are missing,
    ProbeError if the probe is not linear or the rows cannot be split.
    """
    trained = None
    if kind == PROBE:
        results = choose_setting(run.results, position, probe)
        trained = read_trained(run.name, results)
        settings = settings_of(trained)
    rows = divide_rows(run, position, settings or ProbeSettings(), 1, partial)
    if trained is not None:
        require_same_rows(rows, trained)
    check_layers(run, layers, position)
    pairs = _label_pairs(rows.labels, target)
    vectors = _own_vectors(rows, trained, kind, layers, pairs, target is not None)
    control, what, note = _unrelated_values(rows, unrelated)
    notes = [*_zero_notes(layers, vectors), *([note] if note else [])]
    stored = [vectors]
    if control is not None:
        stored.append(_unrelated_vectors(rows, control, layers, vectors))
    names = (DIRECTION, *([UNRELATED] if control is not None else []), *random_names(n_random))
    every = with_random(np.stack(stored, axis=1), layers, names, seed)
    return Directions(
        kind if kind in (PROBE, MEAN_DIFFERENCE) else Path(kind).name,
        rows.fitted_on,
        tuple(layers),
        names,
        pairs,
        every,
        seed,
        what,
        tuple(notes),
    )


def check_layers(run: Run, layers: Sequence[int], position: str) -> None:
    """Raise ConfigError unless the run has these layers, and there are some."""
    n_layers = run.states(position).layout.n_layers
    wrong = [layer for layer in layers if not 0 <= layer < n_layers]
    if wrong or not layers:
        raise ConfigError(
            f"layer {wrong[0] if wrong else 'none'}: run {run.name} has layers 0 to {n_layers - 1}"
        )


def _label_pairs(labels: Sequence[str], target: str | None) -> tuple[tuple[str, str], ...]:
    """Own label and target of every label that has one, in the order of labels."""
    if target is None:
        return tuple((own, labels[(k + 1) % len(labels)]) for k, own in enumerate(labels))
    if target not in labels:
        raise ConfigError(f"--target {unknown_name('label', target, labels)}")
    return tuple((own, target) for own in labels if own != target)


def _own_vectors(
    rows: DividedRows,
    trained: TrainedProbes | None,
    kind: str,
    layers: Sequence[int],
    pairs: Sequence[tuple[str, str]],
    one_target: bool,
) -> NDArray[np.float32]:
    """The directions [layer, pair, hidden] that are not controls."""
    layout = rows.run.states(rows.position).layout
    if kind not in (PROBE, MEAN_DIFFERENCE):
        return read_direction_file(
            Path(kind), layers, pairs, layout.n_layers, layout.hidden_size, one_target
        )
    label = rows.labels.index
    own, other = np.array([(label(own), label(target)) for own, target in pairs]).T
    found = np.empty((len(layers), len(pairs), layout.hidden_size), np.float32)
    for i, layer in enumerate(layers):
        means = class_means(rows.states(layer), rows.y[rows.train], len(rows.labels))
        vectors = means[other] - means[own]
        if trained is not None:
            weights = raw_weights(_saved_probe(trained, layer), rows.labels)
            vectors = with_norms(weights[other] - weights[own], np.linalg.norm(vectors, axis=1))
        found[i] = vectors
    return found


def class_means(states: NDArray[np.floating], codes: NDArray[np.intp], n: int) -> Floats:
    """Means [class, hidden] of `states` [row, hidden], minus the first row.

    Classes whose rows all equal the first one have a mean of exactly 0; so has a class without rows.
    """
    first, sums = states[0].astype(np.float64), np.zeros((n, states.shape[1]))
    for part in row_slices(states):
        one_hot = codes[part] == np.arange(n)[:, None]
        sums += one_hot.astype(np.float64) @ (states[part].astype(np.float64) - first)
    return sums / np.maximum(np.bincount(codes, minlength=n), 1)[:, None]


def raw_weights(probe: Any, labels: Sequence[str]) -> Floats:
    """Weights [class, hidden] of raw states, in the order of `labels`, of a linear probe.

    The difference of two rows is the gradient of the difference of the two scores. Raises
    ProbeError if the probe has no such weights.
    """
    coef, treatment = getattr(probe, "coef_", None), getattr(probe, "treatment_", None)
    if not isinstance(probe, LinearProbe) or coef is None or treatment is None:
        raise ProbeError(
            f"the saved probe {type(probe).__name__} has no weights of vsp's linear probes; use "
            "--direction mean-difference, or probe with --probe logistic"
        )
    if treatment.name == "unit-norm":
        raise ProbeError(
            "the saved probe reads states of unit norm, so its direction differs from row to row; use "
            "--direction mean-difference, or fit it with `vsp probe --treatment center`"
        )
    if [str(one) for one in getattr(probe, "classes_", ())] != list(labels):
        raise ProbeError("the saved probe reads no labels; use --direction mean-difference")
    return np.asarray(coef / treatment.scale, np.float64)


def _saved_probe(trained: TrainedProbes, layer: int) -> Any:
    """The probe of the first outer split; the only one if the dataset has its own split."""
    folds = len(trained.fitted.outer_fitted) > 1
    return trained.probes(layer, folds)[0 if folds else FINAL]


def _zero_notes(layers: Sequence[int], vectors: NDArray[np.float32]) -> list[str]:
    zero = [layer for layer, one in zip(layers, vectors, strict=True) if not one.any(axis=1).all()]
    if not zero:
        return []
    return [
        f"the direction is 0 for some labels in layers {format_ranges(zero)}, because their training "
        "rows have the same mean; it adds nothing there"
    ]


def _unrelated_values(rows: DividedRows, field: str | None) -> tuple[NDArray[Any] | None, str, str]:
    """The values [row] of the unrelated label, its name, and a note if there is none."""
    if field is not None:
        values = run_field(rows.run, rows.work.rows.id, field, "--unrelated")
        texts = ["" if one is None else str(one) for one in values]
        control: NDArray[Any] = np.array(texts)
        n_known = len(_usable_values(rows, control))
        if n_known < 2:
            raise ConfigError(
                f"--unrelated {field}: {n_known} of its values are on {_FEWEST} training rows or "
                "more; use a field with 2 or more such values"
            )
        if _is_label(control[rows.train], rows.y[rows.train]):
            raise ConfigError(
                f"--unrelated {field}: has one value for each label, so it is the label; use another field"
            )
        return control, f"field {field}", ""
    for name, labels in rows.work.tasks.controls.items():
        control = labels[0]
        if len(_usable_values(rows, control)) >= 2:
            return control, f"control task {name}", ""
    facts = rows.work.facts["controls"]
    why = "; ".join(f"{name}: {one['note']}" for name, one in facts.items() if one["note"])
    return None, "", f"no direction of an unrelated label: no control task is drawn ({why})"


def _is_label(values: NDArray[Any], y: NDArray[np.intp]) -> bool:
    """Whether each value stands for one label, and each label for one value."""
    n_both = len(set(zip(values.tolist(), y.tolist(), strict=True)))
    return n_both == len(set(values.tolist())) == len(set(y.tolist()))


def _usable_values(rows: DividedRows, control: NDArray[Any]) -> list[Any]:
    """The values with enough training rows, sorted; an empty text is no value."""
    values, counts = np.unique(control[rows.train], return_counts=True)
    found = zip(values.tolist(), counts.tolist(), strict=True)
    return [value for value, n in found if n >= _FEWEST and value != ""]


def _unrelated_vectors(
    rows: DividedRows,
    control: NDArray[Any],
    layers: Sequence[int],
    vectors: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Mean differences of two values of the unrelated label, with the norms of `vectors`.

    Pair k has the values k and k + 1; the last pair has the last value and the first.
    """
    values, of_train = _usable_values(rows, control), control[rows.train]
    used = np.isin(of_train, values)
    codes = np.searchsorted(np.array(values), of_train[used])
    first = np.arange(vectors.shape[1]) % len(values)
    found = np.empty_like(vectors)
    for i, layer in enumerate(layers):
        means = class_means(rows.states(layer)[used], codes, len(values))
        differences = means[(first + 1) % len(values)] - means[first]
        found[i] = with_norms(differences, np.linalg.norm(vectors[i].astype(np.float64), axis=1))
    return found
