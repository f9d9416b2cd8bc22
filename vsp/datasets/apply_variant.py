"""`vsp generate --of`: write a variant of a dataset to a folder of its own.

The bytes do not depend on the number of workers. Unchanged pictures are links to the source's
folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from joblib import delayed

from vsp.datasets import VARIANTS, metadata
from vsp.datasets.picture_paths import PICTURES, PicturePaths
from vsp.datasets.prompts import label_words
from vsp.datasets.provenance import read_card, write_once
from vsp.datasets.row_problems import row_problems
from vsp.datasets.variants import Record, Redraw, Redrawn, Variant
from vsp.errors import DatasetError
from vsp.utils.files import sha256
from vsp.utils.progress import progress
from vsp.utils.workers import worker_pool

_CHUNK = 64  # pictures that a worker redraws in one job

NewPictures = dict[str, dict[str, Redrawn]]  # folder → name in the source → new picture


@dataclass(frozen=True, slots=True)
class VariantRequest:
    """The dataset to change, the variant's name and folder, and a seed for random choices."""

    source: Path
    variant: str
    output: Path
    seed: int = 0


def apply_variant(
    request: VariantRequest, n_jobs: int, advice: str = "remove it or name another --out"
) -> tuple[bool, list[str]]:
    """Write the variant's folder. Returns False if it exists, and notes of what rows lost.

    Raises DatasetError if the folder holds another dataset, with the `advice`, or a record cannot be
    changed.
    """
    variant: Variant = VARIANTS.load(request.variant)
    notes: list[str] = []
    fresh = write_once(
        request.output.absolute(),
        _card(request),
        lambda folder: notes.extend(_write_folder(folder, request, variant, n_jobs)),
        advice,
    )
    return fresh, notes


def check_variant(folder: Path, name: str) -> None:
    """Raise DatasetError if the variant cannot be made of the dataset. Draws and writes nothing."""
    source, variant = folder.absolute(), VARIANTS.load(name)
    survey = _survey(source, variant, name)
    if variant.exchange_images:
        _exchange_images(source, survey.pictures["images"], 0, [])


def _card(request: VariantRequest) -> dict[str, Any]:
    source = request.source.absolute()
    with metadata.metadata_path(source).open("rb") as file:
        digest = sha256(file)
    return {
        "variant": request.variant,
        "seed": request.seed,
        "of": str(source),
        "of_metadata_sha256": digest,
        "of_card": read_card(source),
    }


def _write_folder(
    folder: Path, request: VariantRequest, variant: Variant, n_jobs: int
) -> list[str]:
    """Write pictures, links and records to `folder`, which is renamed later. Returns notes."""
    source = request.source.absolute()
    survey = _survey(source, variant, request.variant)
    new: NewPictures = {}
    notes: list[str] = []
    for name, redraw in variant.redraw.items():
        if survey.pictures[name]:
            (folder / name).mkdir()
            new[name] = _redraw_all(
                redraw, source / name, folder / name, list(survey.pictures[name]), n_jobs, notes
            )
    if variant.exchange_images:
        new["images"] = _exchange_images(source, survey.pictures["images"], request.seed, notes)
    output = request.output.absolute()
    for name in sorted(set(PICTURES.values()) - variant.redraw.keys()):
        if (source / name).is_dir():
            # The link is relative, so that a folder with both datasets can be moved.
            link = os.path.relpath((source / name).resolve(), output.parent.resolve() / output.name)
            (folder / name).symlink_to(link)
    return notes + _write_records(folder, source, variant, new, survey.n_rows)


@dataclass(slots=True)
class _Survey:
    """Counts over all records, made before the first picture is redrawn."""

    paths: PicturePaths
    n_rows: int = 0
    # Folder → picture name → the splits that use it, one bit per split.
    pictures: dict[str, dict[str, int]] = field(
        default_factory=lambda: {name: {} for name in PICTURES.values()}
    )

    def add(self, record: Record) -> None:
        self.n_rows += 1
        split = 1 << metadata.SPLITS.index(metadata.split_of(record))
        for key, name in _picture_names(record):
            pictures = self.pictures[PICTURES[key]]
            if name not in pictures:
                self.paths.path(key, name)
            pictures[name] = pictures.get(name, 0) | split


def _survey(source: Path, variant: Variant, name: str) -> _Survey:
    """Raises DatasetError, naming record or labels, for what the variant cannot change."""
    survey, refused = _Survey(PicturePaths(source)), Counter[str]()

    def look_at(record: Record) -> None:
        label = metadata.label_of(record)
        if variant.change_label(label) is None:
            refused[label] += 1
        else:
            _change_record(record, variant, {})
        survey.add(record)

    with row_problems() as problems:
        for index, record in enumerate(metadata.records(source)):
            problems.caught(metadata.read_record, source, index, look_at, record)
    if refused:
        raise _refusal(source, variant, name, refused, survey.n_rows)
    return survey


def _refusal(
    source: Path, variant: Variant, name: str, refused: Counter[str], n_rows: int
) -> DatasetError:
    """The error for labels, with their numbers of rows, that the variant cannot change."""
    named = ", ".join(repr(label) for label in sorted(refused)[:8])
    named += f" and {len(refused) - 8} more" if len(refused) > 8 else ""
    if refused.total() == n_rows:
        return DatasetError(
            f"{source}: the variant {name} does not apply to this dataset: its labels {named} "
            f"{variant.refusal}; use another variant"
        )
    return DatasetError(
        f"{metadata.metadata_path(source)}: labels {named}, of {refused.total()} of {n_rows} rows, "
        f"{variant.refusal}; leave these rows out"
    )


def _picture_names(record: Record) -> Iterator[tuple[str, str]]:
    """Key and name of each picture of a record.

    A name must stay inside its folder: a variant writes nowhere else.
    """
    for key in PICTURES.keys() & record.keys():
        values = (
            metadata.regions_of(record) if key == "regions" else [metadata.text_of(record, key)]
        )
        for name in values:
            if isinstance(name, str):
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    raise DatasetError(
                        f"has {key} {name!r}, which is not in {PICTURES[key]}/; put it there"
                    )
                yield key, name


def _redraw_all(
    redraw: Redraw, source: Path, target: Path, names: Sequence[str], n_jobs: int, notes: list[str]
) -> dict[str, Redrawn]:
    """Redraw every picture that can be read; `notes` takes the others."""
    new: dict[str, Redrawn] = {}
    problems: list[str] = []
    jobs = (
        delayed(_redraw_some)(redraw, source, target, names[start : start + _CHUNK])
        for start in range(0, len(names), _CHUNK)
    )
    with (
        progress("generate", target.name, len(names)) as advance,
        worker_pool(n_jobs, "generator") as pool,
    ):
        for chunk in pool(jobs):
            for name, result in chunk:
                if isinstance(result, Redrawn):
                    new[name] = result
                else:
                    problems.append(result)
            advance(len(chunk))
    _note_problems(source, len(names), problems, notes)
    return new


def _redraw_some(
    redraw: Redraw, source: Path, target: Path, names: Sequence[str]
) -> list[tuple[str, Redrawn | str]]:
    """Each name with its new picture, or with the reason why there is none."""
    results: list[tuple[str, Redrawn | str]] = []
    for name in names:
        try:
            results.append((name, redraw(source, target, name)))
        except DatasetError as error:
            results.append((name, str(error)))
    return results


def _note_problems(source: Path, n_names: int, problems: Sequence[str], notes: list[str]) -> None:
    if len(problems) == n_names:
        raise DatasetError(
            f"{source}: none of {n_names} pictures can be read; first: {problems[0]}"
        )
    if problems:
        notes.append(
            f"{len(problems)} of {n_names} pictures in {source} cannot be read and are missing "
            f"from the variant too; first: {problems[0]}"
        )


def _exchange_images(
    source: Path, images: Mapping[str, int], seed: int, notes: list[str]
) -> dict[str, Redrawn]:
    """Another image for each image, used by the same splits, so that no image gets into both
    train and test.

    Missing images stay missing and are not exchanged.
    """
    present = [name for name in images if (source / "images" / name).is_file()]
    missing = [f"{name!r} is missing" for name in images.keys() - set(present)]
    _note_problems(source / "images", len(images), sorted(missing), notes)
    new: dict[str, Redrawn] = {}
    rng = np.random.default_rng(seed)
    for splits in sorted({images[name] for name in present}):
        names = [name for name in present if images[name] == splits]
        if len(names) == 1:
            raise DatasetError(
                f"{source}: {names[0]!r} is the only image of its split, so there is no other "
                "image to exchange it with; leave its rows out"
            )
        # Each image takes the place of the next one in a random cyclic order.
        order = rng.permutation(len(names))
        for one, other in zip(order, np.roll(order, -1), strict=True):
            new[names[one]] = Redrawn(names[other], 0)
    return new


def _write_records(
    folder: Path, source: Path, variant: Variant, new: NewPictures, n_rows: int
) -> list[str]:
    """Write the changed records. Returns a note for each kind of loss, with the number of rows."""
    lost: Counter[str] = Counter()

    def lines(advance: Callable[[int], None]) -> Iterator[bytes]:
        for record in metadata.records(source):
            changed, notes = _change_record(record, variant, new)
            lost.update(notes)
            yield metadata.encode_record(changed)
            advance(1)

    with progress("generate", "rows", n_rows) as advance:
        metadata.write_records(folder, lines(advance))
    return [f"{n} of {n_rows} rows {note}" for note, n in lost.items()]


def _change_record(
    record: Record, variant: Variant, new: NewPictures
) -> tuple[Record, tuple[str, ...]]:
    """The changed record, and notes of its losses. Sets `group`: the image name may change."""
    label = variant.change_label(metadata.label_of(record))
    key = next(key for key in metadata.LABEL_KEYS if key in record)
    image = new.get("images", {}).get(metadata.text_of(record, "image_filename"))
    grouped = {**record, key: label, "group": metadata.group_of(record)}
    options = metadata.options_of(record)
    if options:
        grouped["options"] = _changed_options(options, variant)
    changed, notes = variant.change_record(grouped, None if image is None else image.width)
    prompt = changed.get("prompt", "")
    lost = [text for text in options if text not in grouped["options"] and text in prompt]
    if lost:
        raise DatasetError(
            f"has a prompt that names the option {lost[0]!r}, which the variant changes; leave the "
            "record out"
        )
    for key, folder in PICTURES.items():
        if key in changed:
            changed[key] = _renamed(changed[key], new.get(folder, {}))
    return changed, notes


def _renamed(value: Any, new: Mapping[str, Redrawn]) -> Any:
    """The new name of a picture, or those in a list of pictures and boxes."""
    if isinstance(value, list):
        return [_renamed(one, new) if isinstance(one, str) else one for one in value]
    return new[value].name if value in new else value


def _changed_options(options: Sequence[str], variant: Variant) -> list[str]:
    """Answer options, of which labels are changed as the label of a row is.

    An option may be written as the label or in the words of a prompt: "left_of" or "left of". If the
    changed options are the same in another order, the order stays.
    """

    def changed(option: str) -> str:
        label = option.replace(" ", "_")
        new = variant.change_label(label)
        if new is None or new == label:
            return option
        return new if option == label else label_words(new)

    new = [changed(option) for option in options]
    return list(options) if set(new) == set(options) else new
