"""A study of eight runs of 33 layers: planted results with all that its page shows, made in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers import made
from helpers.page_results import rich_results
from helpers.stored_runs import run_of
from helpers.twin_runs import direction, planted, twin_runs

from vsp.datasets import VARIANTS
from vsp.datasets.metadata import NAME
from vsp.datasets.relations import INVERSE
from vsp.evaluation.axes import AxesSettings, relation_axes
from vsp.evaluation.judged_variants import JUDGED_ROLES, JudgedVariant, digest_of, write_judged
from vsp.storage.axes import write_axes
from vsp.storage.plan import Plan
from vsp.storage.results import Results
from vsp.storage.sealed_summary import identity_of
from vsp.storage.study import Study, results_folder, write_study

N_LAYERS = 33
LABELS = ("above", "below", "left_of", "right_of")
VARIANT_NAMES = ("blank", "mirrored", "swapped", "names", "shuffled", "untrained")
STUDY = Study("large", "does it look?", "fake", "data/x", VARIANT_NAMES, ("data/y",))


def large_study(work: Path) -> Study:
    """Write the study, its results, its axes, and the states of its original; returns the study."""
    write_study(STUDY, work)
    _write_dataset(work / STUDY.dataset)
    found = {role: _results(work, role, name) for role, name in STUDY.runs.items()}
    original = found["original"]
    for role in JUDGED_ROLES:
        write_judged(
            results_folder("large", work) / f"judged-{role}.npz", _judged(original, found[role])
        )
    first = {"above": 0.0, "left_of": np.pi / 2, "in_front_of": np.pi / 3, "larger": np.pi / 4}
    directions = {name: direction(angle) for name, angle in first.items()}
    signal = tuple(np.linspace(0, 2, N_LAYERS))
    (work / "twins").mkdir()
    runs = twin_runs(work / "twins", planted(directions, signal, n_rows=160))
    axes, _ = relation_axes(*runs, settings=AxesSettings(resamples=50, flips=49))
    identity = identity_of(original.summary())
    write_axes(
        replace(axes, run="large-original", swapped="large-swapped", identity=identity),
        original.home,
    )
    return STUDY


def _write_dataset(folder: Path) -> None:
    """Records with names and boxes; the boxes of every fourth row suggest another label."""
    rows = made.predictions(made.accuracies(2))
    place = {"above": (40, 0), "below": (40, 80), "left_of": (0, 40), "right_of": (80, 40)}
    records = []
    for i, (row_id, old) in enumerate(zip(rows["id"], rows["label"], strict=True)):
        label = LABELS[made.NAMES.index(old)]
        x, y = place[INVERSE[label] if i % 4 == 0 else label]
        records.append({
            "id": str(row_id), "label": label, "subject": f"thing {i % 3}", "reference": "table",
            "subject_box": [x, y, x + 10, y + 10], "reference_box": [40, 40, 50, 50],
            "scene": ("kitchen", "street")[i % 2],
        })  # fmt: skip
    folder.mkdir(parents=True)
    (folder / NAME).write_text(json.dumps(records))


def _results(work: Path, role: str, name: str) -> Results:
    rows = made.predictions(made.accuracies(N_LAYERS))
    code = np.searchsorted(rows["classes"], rows["label"])
    names = np.array(_changed(role))
    rows |= {
        "label": names[code],
        "classes": np.array(LABELS),
        "predicted": np.searchsorted(LABELS, names)[rows["predicted"]].astype(np.int16),
        "outer_fitted": np.stack([(rows["outer"] != k).all(axis=0) for k in range(10)]),
        "answer": code.astype(np.int32),
        "answer_names": np.array(LABELS),
        "answer_margin": np.where(names[code] == np.array(LABELS)[code], 1.0, -1.0),
    }
    plan = _plan(work, role, name, rows)
    return rich_results(
        work / "results" / name, LABELS, rows, plan=plan.model_dump(mode="json"), name=name
    )


def _changed(role: str) -> list[str]:
    """The labels of a variant's rows."""
    if role not in VARIANT_NAMES or role == "untrained":
        return [*LABELS]
    change = VARIANTS.load(role).change_label
    return [change(one) or one for one in LABELS]


def _plan(work: Path, role: str, name: str, rows: dict[str, Any]) -> Plan:
    """The plan of a run; that of the original is in `scratch/`, with states."""
    if role == "original":
        code = np.searchsorted(LABELS, rows["label"])
        rng = np.random.default_rng(0)
        states = rng.normal(size=(N_LAYERS, len(code), 12)) + 2 * np.eye(12)[code]
        columns = {one: rows[one] for one in ("id", "group", "label")}
        of_rows = {"states": states, "image": rows["group"], **columns}
        return run_of(work, name, of_rows).plan.model_copy(
            update={"dataset": str(work / STUDY.dataset)}
        )
    variants = () if role not in VARIANT_NAMES or role == "untrained" else (role,)
    return made.plan(name, N_LAYERS, variants=variants, dataset=str(work / STUDY.dataset))


def _judged(original: Results, variant: Results) -> JudgedVariant:
    arrays = original.arrays("predictions", ("id", "classes", "predicted"))
    label = variant.arrays("predictions", ("label",))["label"]
    return JudgedVariant(
        arrays["id"], label, arrays["classes"], arrays["predicted"][20].astype(np.intp), 0,
        digest_of(original), str(identity_of(variant.summary())),
    )  # fmt: skip
