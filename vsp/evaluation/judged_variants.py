"""Predictions of the original's saved probes on the states of its variants.

`vsp probe` of a variant fits new probes. A verdict also needs what the original's own probes say if
the picture is taken away or mirrored, or the names are swapped. They are judged where the states are,
and kept as a small file, so that a report needs `results/` alone.

A row is judged by the probe of the outer split that tests it, at the layer that the inner folds of this
split chose. Rows whose picture that probe was fitted on under another name are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.config import parse
from vsp.errors import ProbeError, RunError, StoreError
from vsp.evaluation.judges import FINAL
from vsp.evaluation.study_rows import StudyRows, Texts, read_study_rows
from vsp.evaluation.target_states import TargetStates, open_target
from vsp.evaluation.trained_probes import TrainedProbes, read_trained
from vsp.storage.npz import ArraysError, check_directory, read_arrays, write_arrays
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.sealed_summary import SUMMARY
from vsp.utils.files import sha256, write_aside
from vsp.utils.reading import open_regular

JUDGED_ROLES = ("blank", "mirrored", "swapped")
_MAX_BYTES = 1 << 30
_KINDS = {"id": "U", "label": "U", "classes": "U", "predicted": "iu", "n_left_out": "iu",
          "original": "U", "target": "U"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class JudgedVariant:
    """What the original's probes predict on a variant."""

    id: Texts  # [row]
    label: Texts  # [row], of the variant
    classes: Texts  # [class], of the probes
    predicted: NDArray[np.intp]  # [repeat, row], index into `classes`
    n_left_out: int  # tested rows without states, or whose probe saw their picture
    original: str  # SHA-256 of the summary of the original's results
    target: str  # identity of the variant's plan

    @property
    def names(self) -> Texts:
        """The predicted labels [repeat, row]."""
        return self.classes[self.predicted]


def judged_variants(
    results: Mapping[str, Results], folder: Path, work: Path
) -> tuple[dict[str, JudgedVariant], dict[str, str]]:
    """The variants of JUDGED_ROLES that can be judged, and why others cannot, by role.

    A file `judged-ROLE.npz` in `folder` is read if it is of these results. Otherwise the states of the
    run in `work`/scratch/ are judged, and the file is written.
    """
    found: dict[str, JudgedVariant] = {}
    missing: dict[str, str] = {}
    original = results["original"]
    for role in JUDGED_ROLES:
        if role not in results:
            continue
        path = folder / f"judged-{role}.npz"
        stored = read_judged(path)
        if stored is not None and is_judged_of(stored, original, results[role]):
            found[role] = stored
            continue
        try:
            position = str(original.summary()["position"])
            target = open_target(results[role].name, work, position, partial=True)
            found[role] = judge_variant(original, target, _identity(results[role]))
        except (RunError, StoreError, ProbeError) as error:
            missing[role] = str(error)
            continue
        write_judged(path, found[role])
    return found, missing


def judge_variant(original: Results, target: TargetStates, identity: str = "") -> JudgedVariant:
    """Judge the tested rows of the original on the states of a variant.

    `identity` is that of the variant's plan. Raises RunError if states or probes do not suit,
    ProbeError if no row is left.
    """
    trained = read_trained(original.name, original)
    rows = read_study_rows(original.name, original)
    judged, place = _judged_rows(trained, rows, target)
    if not len(judged):
        raise ProbeError(
            f"{original.name} on {target.name}: no tested row is left; evaluate on a variant of the "
            "run's dataset"
        )
    predicted = np.zeros((len(rows.outer), len(judged)), np.intp)
    outer = rows.outer[:, place]
    for layer in rows.layers:
        states = target.read_layer(_entry(trained, target, layer))
        has_folds = len(trained.fitted.outer_fitted) > 1
        probes = trained.probes(layer, folds=has_folds)
        for split in np.flatnonzero(rows.layer_of_split == layer).tolist():
            repeat, row = np.nonzero(outer == split)
            if len(row):
                scores = probes[split if has_folds else FINAL].scores(states[judged[row]])
                predicted[repeat, row] = scores.argmax(axis=1)
    return JudgedVariant(
        id=target.id[judged],
        label=target.label[judged],
        classes=np.array(trained.classes),
        predicted=predicted,
        n_left_out=int(rows.tested.sum()) - len(judged),
        original=digest_of(original),
        target=identity,
    )


def _judged_rows(
    trained: TrainedProbes, rows: StudyRows, target: TargetStates
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the target that the original tests, and their places in the original."""
    place = trained.fitted.place_of(target.identity)
    judge = trained.fitted.judges(target.identity)
    known = np.maximum(place, 0)
    own = rows.outer[:, known] if len(trained.fitted.outer_fitted) > 1 else FINAL
    kept = (place >= 0) & rows.tested[known] & (judge == own).all(axis=0)
    judged = np.flatnonzero(kept)
    return judged, place[judged]


def _entry(trained: TrainedProbes, target: TargetStates, layer: int) -> int:
    """The entry of the target with the same layer of the model."""
    wanted, of_target = trained.convention.layers[layer], list(target.convention.layers)
    if trained.hidden_size != target.hidden_size or wanted not in of_target:
        raise RunError(
            f"{trained.name} on {target.name}: layer {wanted} of {trained.hidden_size:,} values is not "
            "in the target; name a run of the same model"
        )
    return of_target.index(wanted)


def digest_of(results: Results) -> str:
    """SHA-256 of the summary. Raises RunError if it cannot be read."""
    try:
        with open_regular(results.folder / SUMMARY, _MAX_BYTES) as file:
            return sha256(file)
    except OSError:
        results.summary()  # raises with what to do
        raise


def is_judged_of(judged: JudgedVariant, original: Results, variant: Results) -> bool:
    """Whether predictions are of these results of the original, on a variant with this plan."""
    return (judged.original, judged.target) == (digest_of(original), _identity(variant))


def _identity(results: Results) -> str:
    """The identity of the plan that results are of."""
    return parse(Plan, results.summary()["plan"], str(results.folder / SUMMARY)).identity()


def write_judged(path: Path, judged: JudgedVariant) -> None:
    """Write the file aside, then rename it. Raises DiskError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as file:
        write_arrays(
            file,
            {
                "id": judged.id,
                "label": judged.label,
                "classes": judged.classes,
                "predicted": judged.predicted.astype(np.int16),
                "n_left_out": np.array(judged.n_left_out),
                "original": np.array(judged.original),
                "target": np.array(judged.target),
            },
        )


def read_judged(path: Path) -> JudgedVariant | None:
    """Read the file; None if there is none, or if it is not what `write_judged` writes."""
    try:
        with open_regular(path, _MAX_BYTES) as file:
            check_directory(file)
            arrays = read_arrays(file, tuple(_KINDS))
    except (OSError, ArraysError):
        return None
    if not _is_judged(arrays):
        return None
    return JudgedVariant(
        arrays["id"],
        arrays["label"],
        arrays["classes"],
        arrays["predicted"].astype(np.intp),
        int(arrays["n_left_out"]),
        str(arrays["original"]),
        str(arrays["target"]),
    )


def _is_judged(arrays: Mapping[str, NDArray[Any]]) -> bool:
    if any(
        name not in arrays or arrays[name].dtype.kind not in kind for name, kind in _KINDS.items()
    ):
        return False
    id_, label, classes, predicted = (
        arrays[name] for name in ("id", "label", "classes", "predicted")
    )
    return (
        id_.ndim == label.ndim == classes.ndim == 1
        and predicted.ndim == 2
        and len(predicted) > 0
        and len(id_) == len(label) == predicted.shape[1] > 0
        and len(np.unique(id_)) == len(id_)
        and 0 <= int(predicted.min()) <= int(predicted.max()) < len(classes)
        and arrays["n_left_out"].ndim == arrays["original"].ndim == arrays["target"].ndim == 0
    )
