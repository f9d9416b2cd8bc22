"""Consistent synthetic results for tests, without a model, a store or a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.comparison_simulation import deal_folds
from numpy.typing import NDArray

from vsp.storage.layer_score import LayerScore
from vsp.storage.plan import Plan
from vsp.storage.results import Results

NAMES = ["above", "below", "left", "right"]


def plan(name: str = "small", n_layers: int = 13, n_samples: int = 240, **changes: Any) -> Plan:
    values = {
        "format": 3,
        "id": "0" * 32,
        "name": name,
        "created": "2026-01-01T00:00:00+00:00",
        "vsp": "0.1.0",
        "packages": {},
        "dataset": "data/raw/spatial",
        "labels": NAMES,
        "prompt": "instruction",
        "model": {"family": "llava15", "checkpoint": "llava-hf/llava-1.5-7b-hf"},
        "checkpoint_files": {},
        "compute_dtype": "float16",
        "image_backend": "pil",
        "manifest_offsets": [0, 200 * n_samples],
        "manifest_sha256": ["0"],
        "n_samples": n_samples,
        "n_layers": n_layers,
        "hidden_size": 4096,
        "dtype": "float16",
        "boundary": 4096,
        "shard_starts": [0],
        "batch_size": 16,
        "batch_tokens": 16,
        "share": True,
    }
    return Plan.model_validate({**values, **changes})


def accuracies(n_layers: int) -> NDArray[np.float64]:
    """Accuracy [layer]: chance in the first layer, a peak at two thirds, less at the end."""
    depth = np.linspace(0, 1, n_layers)
    return 0.25 + 0.62 * np.exp(-(((depth - 0.65) / 0.3) ** 2)) * (depth > 0)


def predictions(
    accuracy: NDArray[np.float64], n_groups: int = 120, repeats: int = 2, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Predictions of two rows a group with one label; a group is hard in all layers or in none."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(n_groups) % len(NAMES), 2)
    n_rows, n_layers = len(label), len(accuracy)
    hard = np.repeat(rng.random(n_groups), 2)
    luck = 0.7 * hard + 0.3 * rng.random((n_layers, repeats, n_rows))
    bounds = np.stack([np.quantile(luck[k], accuracy[k]) for k in range(n_layers)])
    wrong = luck > bounds[:, None, None]
    other = (label + rng.integers(1, len(NAMES), wrong.shape)) % len(NAMES)
    predicted = np.where(wrong, other, label).astype(np.int16)
    probability = np.full((*wrong.shape, len(NAMES)), 0.1, np.float32)
    np.put_along_axis(probability, predicted[..., None].astype(np.intp), 0.7, axis=-1)
    return {
        "id": np.array([f"sample_{i:05d}" for i in range(n_rows)]),
        "group": np.array([f"image_{i // 2:05d}" for i in range(n_rows)]),
        "rows": np.arange(n_rows),
        "label": np.array(NAMES)[label],
        "layers": np.arange(n_layers),
        "classes": np.array(NAMES),
        "predicted": predicted,
        "probability": probability,
        "outer": deal_folds(n_groups, repeats),
    }


def loss(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Loss [layer, repeat, row]: 1 if wrong, or the squared error."""
    if "classes" not in arrays:
        return np.asarray((arrays["predicted"] - arrays["label"]) ** 2, np.float64)
    true = np.searchsorted(arrays["classes"], arrays["label"])
    return np.asarray(arrays["predicted"] != true, np.float64)


def inner(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Inner validation scores [layer, outer, strength], close to the outer test scores."""
    lost, base = loss(arrays), arrays.get("base", np.ones(arrays["outer"].shape))
    n_outer = int(arrays["outer"].max()) + 1
    scores = np.zeros((len(lost), n_outer))
    for split in range(n_outer):
        other = (arrays["outer"] != split) & (arrays["outer"] >= 0)
        other = other if other.any() else arrays["outer"] >= 0
        scores[:, split] = 1 - (lost * other).sum(axis=(1, 2)) / (base * other).sum()
    return scores[:, :, None] - np.array([0.02, 0.01, 0.0, 0.03])


def numbers(n_layers: int = 13, n_groups: int = 120, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Like `predictions`, with numbers as targets."""
    rng = np.random.default_rng(seed)
    rows = predictions(accuracies(n_layers), n_groups, 1, seed)
    label = rng.normal(20, 5, len(rows["id"]))
    noise = np.linspace(6, 1, n_layers)[:, None] * rng.normal(size=(n_layers, len(label)))
    shared = {key: rows[key] for key in ("id", "group", "rows", "layers", "outer")}
    return {
        **shared,
        "label": label,
        "predicted": (label + noise)[:, None].astype(np.float32),
        "base": (label[None] - 20) ** 2,
    }


def scores(rows: dict[str, NDArray[Any]]) -> list[LayerScore]:
    """Scores of each layer of the predictions; figures that need more are invented."""
    base = rows.get("base", np.ones(rows["outer"].shape))
    values = 1 - loss(rows).sum(axis=(1, 2)) / base.sum()
    best = int(np.argmax(values))
    made = [_score(rows, layer, values, best) for layer in range(len(values))]
    return made if "classes" in rows else [_of_a_number(score, rows) for score in made]


def _score(
    rows: dict[str, NDArray[Any]], layer: int, values: NDArray[np.float64], best: int
) -> LayerScore:
    value, n_rows = float(values[layer]), len(rows["id"])
    half = 1.96 * float(np.sqrt(max(value * (1 - value), 0.01) / n_rows))
    true = np.searchsorted(np.array(NAMES), rows["label"].astype(str)) % len(NAMES)
    predicted = rows["predicted"][layer, 0].astype(np.intp) % len(NAMES)
    confusion = np.zeros((len(NAMES), len(NAMES)), int)
    np.add.at(confusion, (true, predicted), 1)
    right = np.diag(confusion)
    recall = dict(zip(NAMES, right / np.maximum(confusion.sum(axis=1), 1), strict=True))
    precision = dict(zip(NAMES, right / np.maximum(confusion.sum(axis=0), 1), strict=True))
    return LayerScore(
        layer=layer,
        score=value,
        low=value - half,
        high=value + half,
        over_training=None,
        chance=0.25,
        accuracy=value,
        balanced_accuracy=value,
        macro_f1=value - 0.01,
        recall={name: float(share) for name, share in recall.items()},
        precision={name: float(share) for name, share in precision.items()},
        confusion=confusion.tolist(),
        ece=0.04,
        brier=0.2,
        rmse=None,
        strength=0.01,
        strengths=[0.01] * 10,
        at_edge=0,
        by_strength={f"{c:g}": value - 0.01 for c in (0.001, 0.01, 0.1, 1.0)},
        controls={"names": control(value)},
        capacity=0.4,
        p_within=0.0099 if value > 0.35 else 0.5,
        p_within_corrected=0.0099 if value > 0.35 else 0.9,
        p=0.0099 if value > 0.35 else 0.31,
        p_corrected=0.0099 if value > 0.35 else 0.82,
        code_bits=500.0 - 300 * value,
        code_error=3.0,
        compression=480 / (500.0 - 300 * value),
        control_code_bits=500.0,
        control_code_error=2.0,
        control_compression=0.96,
        curve=[
            [20.0, 0.25 + (value - 0.25) / 3, 0.02],
            [40.0, 0.25 + (value - 0.25) / 2, 0.01],
            [96.0, value, None],
        ],
        over_embedding={
            "difference": value - values[0],
            "low": value - values[0] - half,
            "high": value - values[0] + half,
        },
        below_best={
            "difference": value - values[best],
            "low": value - values[best] - half,
            "high": min(value - values[best] + half, 0.0),
        },
        n_fits=620,
        n_uncertified=0,
        max_gap=7e-9,
        n_train=192,
        n_test=48,
    )


def interval(difference: float, half: float = 0.06) -> dict[str, float]:
    """A difference and its interval."""
    return {"difference": difference, "low": difference - half, "high": difference + half}


def control(value: float) -> dict[str, dict[str, float]]:
    """Normalised score of a task, that of its control, and selectivity."""
    normalised = (value - 0.25) / 0.75
    figures = {"score": normalised, "control": 0.1, "selectivity": normalised - 0.1}
    return {name: interval(figure) for name, figure in figures.items()}


def peak(best: LayerScore, label: bool) -> dict[str, Any]:
    """Figures of the peak, close to those of the best layer."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "precision", "confusion")
    recall = {
        name: {"score": value, "low": value - 0.1, "high": value + 0.05, "n": 60}
        for name, value in (best.recall or {}).items()
    }
    return {
        "estimate": best.score - 0.008, "low": best.score - 0.05, "high": best.score + 0.03,
        "layers": {best.layer: 9, best.layer - 1 if best.layer else 1: 1}, "naive": best.score,
        "over_training": None,
        "over_chance": interval(best.score - best.chance), "over_words": interval(0.557),
        "over_embedding": interval(best.score - 0.26),
        **{name: getattr(best, name) for name in names},
        "recall": recall if label else None,
        "ece": best.ece, "ece_null": best.ece and 0.03, "ece_null_high": best.ece and 0.05,
        "brier": best.brier, "rmse": best.rmse, "controls": best.controls, "pairs": None,
    }  # fmt: skip


def _of_a_number(score: LayerScore, rows: dict[str, NDArray[Any]]) -> LayerScore:
    return replace(
        score,
        chance=0.0,
        **dict.fromkeys(
            ("accuracy", "balanced_accuracy", "macro_f1", "recall", "precision", "confusion")
        ),
        **dict.fromkeys(("ece", "brier", "code_bits", "code_error", "compression", "max_gap")),
        **dict.fromkeys(("control_code_bits", "control_code_error", "control_compression")),
        rmse=float(np.sqrt(loss(rows)[score.layer].mean())),
    )


def summary(layer_scores: list[LayerScore], name: str = "small", **changes: Any) -> dict[str, Any]:
    best = max(layer_scores, key=lambda score: score.score)
    label = best.confusion is not None
    card = {
        "probe": "logistic" if label else "ridge",
        "treatment": "center",
        "parameter": "C" if label else "alpha",
        "grid": [0.001, 0.01, 0.1, 1.0],
        "target": "label" if label else "number",
        "link": "sigmoid" if label else "",
        **({"classes": NAMES} if label else {}),
        "arrays": {"coef": "[class, hidden]", "intercept": "[class]"},
    }
    values = {
        "run": name,
        "plan": plan(name, len(layer_scores)).model_dump(mode="json"),
        "position": "last",
        "n_layers": len(layer_scores),
        "hidden_size": 4096,
        "says": None,
        "no_answers": "",
        "rows": {
            "planned": 240, "done": 240, "failed": 0, "missing": 0,
            "used": 240, "train": 240, "test": 240,
        },
        "failed_reasons": {},
        "batching": None,
        "split": "5 folds by group, 2 times",
        "split_by": "image",
        "n_without_boxes": 240,
        "settings": {"probe": card["probe"], "seed": 0},
        "probe": card,
        "statistic": "accuracy" if label else "R²",
        "confidence": 0.95,
        "resamples": 2000,
        "n_permutations": 100,
        "n_movable": 240,
        "n_groups": 120,
        "n_within": 180,
        "controls": {
            "names": {"tasks": 5, "types": 40, "note": ""},
            "cell": {"tasks": 0, "types": 0, "note": "no row has a box of the subject"},
        },
        "capacity_chance": best.chance if label else None,
        "untrained": "",
        "equal_states": 0,
        "chance": best.chance,
        "best_layer": best.layer,
        "n_fits": 620 * len(layer_scores),
        "n_uncertified": 0,
        "max_gap": 7e-9 if label else None,
        "tolerance": 1e-6,
        "peak": peak(best, label),
        "baselines": {
            "majority": {"score": best.chance, "low": None, "high": None},
            "words alone": {"score": 0.31, "low": 0.27, "high": 0.35},
            "embedding output": {"score": layer_scores[0].score, "low": 0.2, "high": 0.3},
            "random features": {"score": 0.33, "low": 0.3, "high": 0.36},
        },
    }  # fmt: skip
    return {**values, **changes}


def made(
    folder: Path,
    arrays: dict[str, NDArray[Any]] | None = None,
    layer_scores: list[LayerScore] | None = None,
    inner_scores: NDArray[np.float64] | None = None,
    **changes: Any,
) -> Results:
    """Write results of the setting `logistic`, by default of 13 layers.

    `folder` is that of the run, or of the setting. `changes` replace fields of the summary.
    """
    arrays = predictions(accuracies(13)) if arrays is None else arrays
    layer_scores = scores(arrays) if layer_scores is None else layer_scores
    is_setting = folder.name == "logistic"
    results = Results(folder, folder.parent) if is_setting else Results(folder / "logistic", folder)
    n_layers = len(layer_scores)
    probe = {"coef": np.arange(8.0).reshape(2, 4), "intercept": np.zeros(2)}
    scored = inner(arrays) if inner_scores is None else inner_scores
    estimates = {"null": np.full((n_layers, 100), 0.25), "inner": scored}
    name = changes.pop("name", results.home.name)
    values = summary(layer_scores, name, **changes)
    base = arrays.get("base", np.ones(arrays["outer"].shape))
    arrays = {"loss": loss(arrays), "base": base, **arrays}
    results.write(values, layer_scores, arrays, estimates, [probe] * n_layers)
    return results
