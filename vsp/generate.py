"""`vsp generate`: render a synthetic dataset folder; the same bytes for any number of workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from vsp.config import parse, read_yaml
from vsp.datasets import WORLDS
from vsp.datasets.cards import placed
from vsp.datasets.shapes import World, WorldConfig, draw
from vsp.errors import ConfigError
from vsp.files import write_json, write_text
from vsp.progress import progress

_CHUNK = 64  # samples a worker renders at a time
# Streams of random numbers that no sample's own stream [seed, index] can meet.
_LABELS, _SPLIT = 2**32, 2**32 + 1


def read_config(path: Path) -> WorldConfig:
    """The dataset that a YAML file asks for. Raises ConfigError in one line."""
    values = read_yaml(path)
    if "task" not in values:
        raise ConfigError(f"{path}: has no `task`; known: {', '.join(WORLDS.names())}")
    config: WorldConfig = parse(WORLDS.load(str(values["task"])).Config, values, str(path))
    return config


def generate(config: WorldConfig, n_jobs: int) -> bool:
    """Write the dataset folder and its splits; False if this very dataset is there already.

    Raises DatasetError if something else lies in its place.
    """
    folder = Path(config.output).absolute()  # worker processes may stand in another folder
    card = config.model_dump(mode="json")
    fresh = placed(
        folder,
        card,
        lambda aside: _write_folder(aside, config, n_jobs),
        "remove it or change `output` in the configuration",
    )
    _write_splits(folder, Path(config.splits) / config.task)
    return fresh


def balanced(labels: Sequence[str], n: int, seed: int) -> list[str]:
    """`n` labels, each as often as the others to within one, in random order."""
    order = np.random.default_rng([seed, _LABELS]).permutation(n)
    return [labels[i % len(labels)] for i in order]


def stratified(labels: Sequence[str], val_fraction: float, seed: int) -> list[str]:
    """For each row "train" or "val", whose share of each label is `val_fraction` to within a row."""
    rng = np.random.default_rng([seed, _SPLIT])
    order = sorted(rng.permutation(len(labels)), key=lambda row: labels[row])  # a stable sort
    # Along the sorted rows, "val" falls wherever the running share passes a whole number.
    share = np.floor(np.arange(len(labels) + 1) * val_fraction + 1e-9)
    splits = [""] * len(labels)
    for place, row in enumerate(order):
        splits[row] = "val" if share[place + 1] > share[place] else "train"
    return splits


def _write_folder(folder: Path, config: WorldConfig, n_jobs: int) -> None:
    (folder / "images").mkdir()
    world: World = WORLDS.load(config.task)(config)
    labels = balanced(world.labels, config.n_samples, config.seed)
    splits = stratified(labels, config.val_fraction, config.seed)
    records: list[dict[str, str]] = []
    with progress("generate", "images", config.n_samples) as advance:
        for chunk in _rendered(folder / "images", config, labels, n_jobs):
            records += chunk
            advance(len(chunk))
    for record, split in zip(records, splits, strict=True):
        record["split"] = split
    # One record a line: a person can read it, a diff shows what changed.
    lines = ",\n".join(json.dumps(record) for record in records)
    write_text(folder / "metadata.json", f"[\n{lines}\n]\n")


def _rendered(
    images: Path, config: WorldConfig, labels: Sequence[str], n_jobs: int
) -> Iterator[list[dict[str, str]]]:
    jobs = (
        delayed(_render)(images, config, start, labels[start : start + _CHUNK])
        for start in range(0, len(labels), _CHUNK)
    )
    chunks: Iterator[list[dict[str, str]]] = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    return chunks


def _render(
    images: Path, config: WorldConfig, start: int, labels: Sequence[str]
) -> list[dict[str, str]]:
    world: World = WORLDS.load(config.task)(config)
    records = []
    for index, label in enumerate(labels, start=start):
        scene = world.scene(label, np.random.default_rng([config.seed, index]))
        name = f"{config.task}_{index:06d}"
        # Flat shapes shrink to a few kilobytes at the fastest level already.
        draw(scene, config.image_size).save(images / f"{name}.png", compress_level=1)
        records.append({"image_id": name, "image_filename": f"{name}.png", **scene.record})
    return records


def _write_splits(folder: Path, target: Path) -> None:
    records = json.loads((folder / "metadata.json").read_text())
    for split in ("train", "val"):
        ids = [record["image_id"] for record in records if record["split"] == split]
        write_json(target / f"{split}.json", ids)
