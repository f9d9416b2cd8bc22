"""`vsp generate`: render a synthetic dataset. The bytes do not depend on the number of workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed

from vsp.config import parse, read_yaml
from vsp.datasets import WORLDS, metadata, prompts, questions
from vsp.datasets.provenance import write_once
from vsp.datasets.synthetic.clutter import clutter_marks
from vsp.datasets.synthetic.photos import find_photos, photos_card, put_on_photo
from vsp.datasets.synthetic.shapes import World, WorldConfig, draw_scene, write_picture
from vsp.errors import ConfigError
from vsp.utils.config_files import config_names, find_config
from vsp.utils.files import write_json
from vsp.utils.progress import progress
from vsp.utils.spelling import unknown_name
from vsp.utils.workers import worker_pool

_ENDING = "_dataset.yaml"  # of the files in configs/ that describe a dataset
_CHUNK = 64  # samples that a worker renders in one job
# Seeds of other random streams than those of the samples, [seed, index].
_LABELS, _SPLIT = 2**32, 2**32 + 1
_CLUTTER, _PHOTO = 2, 3  # seeds of a sample's clutter and photograph: [seed, index, 2 or 3]


def config_path(name: str, work: Path) -> Path:
    """The YAML file that describes a dataset: the path `name`, or a name in `configs/`.

    Raises ConfigError, listing the known names, if there is no such file.
    """
    path = find_config(name, "configs", work, _ENDING)
    if path is None:
        known = config_names("configs", work, _ENDING)
        message = unknown_name("config", name, known)
        raise ConfigError(f"{message}, in configs/; or give the path of a .yaml file")
    return path


def read_config(path: Path) -> WorldConfig:
    """The options in a YAML file. Raises ConfigError for an unknown task or option."""
    values = read_yaml(path)
    if "task" not in values:
        raise ConfigError(f"{path}: has no `task`; known: {', '.join(WORLDS.names())}")
    config: WorldConfig = parse(WORLDS.load(str(values["task"])).Config, values, str(path))
    return config


def written_to(config: WorldConfig, folder: Path) -> WorldConfig:
    """The same dataset in another folder; its split files go to `splits/` in it.

    In the folder of the configuration they would replace those of the dataset that it describes.
    """
    return config.model_copy(update={"output": str(folder), "splits": str(folder / "splits")})


def generate(config: WorldConfig, n_jobs: int) -> bool:
    """Write the dataset folder and its split files. False if the same dataset exists already.

    Raises DatasetError if the folder holds anything else.
    """
    folder = Path(config.output).absolute()  # workers may have another working directory
    photos = (
        [] if config.photos is None else find_photos(Path(config.photos).expanduser().absolute())
    )
    fresh = write_once(
        folder,
        config.card() | (photos_card(photos) if photos else {}),
        lambda temporary: _write_folder(temporary, config, photos, n_jobs),
        "remove it, or name another folder with --out or as `output` in the configuration",
    )
    _write_splits(folder, Path(config.splits) / config.task)
    return fresh


def balanced_labels(labels: Sequence[str], n: int, seed: int, within: int = 1) -> list[str]:
    """`n` labels in random order; their counts differ by one at most.

    With `within` = the number of labels of another kind, drawn with the same seed, the counts are
    also balanced within each of those.
    """
    order = np.random.default_rng([seed, _LABELS]).permutation(n)
    return [labels[i // within % len(labels)] for i in order]


def stratified_splits(labels: Sequence[str], val_fraction: float, seed: int) -> list[str]:
    """ "train" or "val" for each row; "val" has the share `val_fraction` of each label's rows."""
    rng = np.random.default_rng([seed, _SPLIT])
    order = sorted(rng.permutation(len(labels)), key=lambda row: labels[row])  # a stable sort
    # Along the sorted rows, a row goes to "val" where the running share passes an integer.
    share = np.floor(np.arange(len(labels) + 1) * val_fraction + 1e-9)
    splits = [""] * len(labels)
    for i, row in enumerate(order):
        splits[row] = "val" if share[i + 1] > share[i] else "train"
    return splits


def _write_folder(folder: Path, config: WorldConfig, photos: Sequence[Path], n_jobs: int) -> None:
    (folder / "images").mkdir()
    world: World = WORLDS.load(config.task)(config)
    labels = balanced_labels(world.labels, config.n_samples, config.seed)
    splits = stratified_splits(labels, config.val_fraction, config.seed)
    languages = balanced_labels(
        config.languages or [""], len(labels), config.seed, len(world.labels)
    )
    records: list[dict[str, Any]] = []
    with progress("generate", "images", config.n_samples) as advance:
        for chunk in _render_all(
            folder / "images", config, photos, list(zip(labels, languages, strict=True)), n_jobs
        ):
            records += chunk
            advance(len(chunk))
    for record, split in zip(records, splits, strict=True):
        record["split"] = split
    metadata.write_records(folder, map(metadata.encode_record, records))


def _render_all(
    images: Path,
    config: WorldConfig,
    photos: Sequence[Path],
    labels: Sequence[tuple[str, str]],
    n_jobs: int,
) -> Iterator[list[dict[str, Any]]]:
    jobs = (
        delayed(_render_chunk)(images, config, photos, start, labels[start : start + _CHUNK])
        for start in range(0, len(labels), _CHUNK)
    )
    with worker_pool(n_jobs, "generator") as pool:
        yield from pool(jobs)


def _render_chunk(
    images: Path,
    config: WorldConfig,
    photos: Sequence[Path],
    start: int,
    labels: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Write pictures and give records of samples `start`, `start` + 1, …

    Clutter, photographs and language are added outside the world, so they cannot depend on the
    label.
    """
    world: World = WORLDS.load(config.task)(config)
    records = []
    for index, (label, language) in enumerate(labels, start=start):
        scene = world.scene(label, np.random.default_rng([config.seed, index]))
        marks = clutter_marks(config, np.random.default_rng([config.seed, index, _CLUTTER]))
        name = f"{config.task}_{index:06d}"
        image = draw_scene(scene, config.image_size, marks)
        if photos:
            chosen = np.random.default_rng([config.seed, index, _PHOTO]).integers(len(photos))
            image = put_on_photo(image, photos[int(chosen)])
        write_picture(image, images / f"{name}.png")
        record = {"image_id": name, "image_filename": f"{name}.png", **scene.record}
        if language:
            record["language"] = language
        records.append(_add_prompt(record, config.prompt_template_index))
    return records


def _add_prompt(record: dict[str, Any], template: int) -> dict[str, Any]:
    """The record with its own prompt, in its language."""
    question = questions.question_of(record)
    assert question is not None, f"{record} names nothing to ask about"
    form = prompts.numbered_form(question.forms, template)
    return {**record, "prompt": prompts.render(form, dict(question.fields))}


def _write_splits(folder: Path, target: Path) -> None:
    records = json.loads((folder / "metadata.json").read_text())
    for split in ("train", "val"):
        ids = [record["image_id"] for record in records if record["split"] == split]
        write_json(target / f"{split}.json", ids)
