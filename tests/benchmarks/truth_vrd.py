"""A model without eyes on VRD: states of the two names only, with the real annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import truth_figures as figures
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder
from truth_figures import Line, known, mean
from truth_planted import PLAIN
from truth_runs import Rows, probed

from vsp.datasets.importers.annotations import Picture
from vsp.datasets.importers.vrd import IMPORTER
from vsp.datasets.prompts import SPATIAL
from vsp.datasets.relations import read_relations
from vsp.evaluation.design import Design, make_design

_SHARED = Path(__file__).resolve().parents[3] / "shared/data/vrd"
_FILES = ("train", "test")
_DIMS = 64  # of the random vector of a name


def available() -> bool:
    return (_SHARED / "annotations_train.json").exists()


@cache
def _pictures() -> tuple[tuple[Picture, list[tuple[Any, str]]], ...]:
    """Pictures with their relations of six labels; pairs of names with two labels are left out."""
    table = read_relations("6way", Path())
    files = [(split, _SHARED / f"annotations_{split}.json") for split in _FILES]
    found = []
    for picture in IMPORTER.read(files, {}):
        by_names: dict[tuple[str, str], list[tuple[Any, str]]] = {}
        for relation in picture.relations:
            label = table.label(relation.predicate)
            if label:
                names = relation.subject.name, relation.reference.name
                by_names.setdefault(names, []).append((relation, label))
        rows = [same[0] for same in by_names.values() if len({label for _, label in same}) == 1]
        if rows:
            found.append((picture, rows))
    return tuple(found)


def vrd_rows(n: int, seed: int) -> Rows:
    """About `n` rows of random pictures; 0: all rows."""
    columns: list[tuple[str, str, str, str, str, Any, Any]] = []
    pictures = _pictures()
    for i in np.random.default_rng(seed).permutation(len(pictures)):
        if n and len(columns) >= n:
            break
        columns += _rows_of(*pictures[i])
    label, group, prompt, *others = zip(*columns, strict=True)
    names = ("subject", "reference", "subject_box", "reference_box")
    return Rows(label, group, prompt, others=dict(zip(names, others, strict=True)))


def _rows_of(picture: Picture, rows: list[tuple[Any, str]]) -> Iterator[tuple[Any, ...]]:
    for relation, label in rows:
        a, b = relation.subject, relation.reference
        prompt = SPATIAL["statement"].format(subject=a.name, reference=b.name)
        yield label, picture.image, prompt, a.name, b.name, a.box, b.box


def _states(rows: Rows, rng: np.random.Generator, sighted: bool) -> Any:
    """Layer 0 is noise; each later layer holds a random vector of each name, and less noise."""
    parts = []
    for name in ("subject", "reference"):
        texts, place = np.unique(rows.others[name], return_inverse=True)
        parts.append(rng.standard_normal((len(texts), _DIMS))[place])
    if sighted:
        boxes = [np.array(rows.others[f"{name}_box"], float) for name in ("subject", "reference")]
        centre = [(box[:, :2] + box[:, 2:]) / 2 for box in boxes]
        parts[0][:, :2] += (centre[0] - centre[1]) / 150
    meant = np.concatenate(parts, axis=1)
    noise = rng.standard_normal((3, *meant.shape))
    return np.array([0.0, 1.0, 1.0])[:, None, None] * meant + noise * np.array([1, 0.5, 0.2])[:, None, None]  # fmt: skip


def blind(seed: int, n: int, sighted: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rows = vrd_rows(n, seed)
    settings = replace(PLAIN, metric="accuracy", permutations=39, repeats=1, seed=seed)
    summary, scores = probed(_states(rows, rng, sighted), rows, settings)
    found = {
        "over words": figures.over_words(summary, scores),
        "majority": summary["baselines"]["majority"]["score"],
        "words": figures.words(summary, scores),
        "p": figures.p_any(summary, scores),
        "p within": figures.p_within_any(summary, scores),
    }
    return found if sighted else {**found, **_names_alone(rows, seed)}


def _names_alone(rows: Rows, seed: int) -> dict[str, float]:
    """Accuracy of a logistic model on the two names, fitted here; also on pairs of names that are new."""
    y = np.unique(rows.label, return_inverse=True)[1]
    design = make_design(y, np.array(rows.group), np.full(len(y), ""), repeats=1, seed=seed)
    prompt = np.unique(rows.prompt, return_inverse=True)[1]
    order = np.concatenate([split.test for split in design.outer])
    seen = np.concatenate([_seen(prompt, design, k) for k in range(len(design.outer))])
    right = (_logistic(rows, y, design) == y)[order]
    return {
        "logistic": float(right.mean()),
        "logistic, new": float(right[~seen].mean()),
        "new pairs": float((~seen).mean()),
    }


def _seen(prompt: Any, design: Design, k: int) -> Any:
    split = design.outer[k]
    return np.isin(prompt[split.test], prompt[design.train_sets[split.train_set]])


def _logistic(rows: Rows, y: Any, design: Design) -> Any:
    names = np.stack([rows.others["subject"], rows.others["reference"]], axis=1)
    x, predicted = OneHotEncoder().fit_transform(names), np.empty_like(y)
    for split in design.outer:
        train = design.train_sets[split.train_set]
        model = LogisticRegression(C=1.0, max_iter=2000).fit(x[train], y[train])
        predicted[split.test] = model.predict(x[split.test])
    return predicted


def blind_lines(n: int, found: Sequence[dict[str, Any]]) -> list[Line]:
    world = f"VRD, blind model, {n or 'all'} rows"
    logistic = f"{mean(known(found, 'logistic'))} (logistic model of the names)"
    words = mean([one.value for one in known(found, "words")])
    return [
        Line(world, "majority", "", mean(known(found, "majority"))),
        Line(world, "words alone", logistic, words),
        *_over_lines(world, "about 0", "above .05", found),
    ]


def _over_lines(
    world: str, truth: str, p_truth: str, found: Sequence[dict[str, Any]]
) -> list[Line]:
    over = known(found, "over words")
    bounds = f" [{np.mean([o.low for o in over]):.3f}, {np.mean([o.high for o in over]):.3f}]"
    lines = [
        Line(world, "best layer: over words", truth, mean([one.value for one in over]) + bounds),
        Line(world, "smallest p corrected", "", mean(known(found, "p"))),
    ]
    within = known(found, "p within")
    if within:
        lines.append(Line(world, "smallest p within words", p_truth, mean(within)))
    return lines


def sighted_lines(n: int, found: Sequence[dict[str, Any]]) -> list[Line]:
    world = f"VRD, names and places of the boxes, {n or 'all'} rows"
    return _over_lines(world, "above 0", "small", found)
