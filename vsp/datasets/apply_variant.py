"""`vsp generate --of`: a variant of a dataset, in a folder of its own; the same bytes for any number
of workers. Pictures that stay as they are are links to the source's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from vsp.datasets import VARIANTS, metadata
from vsp.datasets.provenance import read_card, write_once
from vsp.datasets.variants import PICTURES, Draw, Drawn, Record, Variant
from vsp.errors import DatasetError
from vsp.utils.files import sha256
from vsp.utils.progress import progress

_CHUNK = 64  # pictures a worker draws at a time

Made = dict[str, dict[str, Drawn]]  # folder → name in the source → picture


@dataclass(frozen=True, slots=True)
class Asked:
    source: Path
    variant: str
    output: Path
    seed: int = 0  # of what is drawn at random


def vary(asked: Asked, n_jobs: int) -> tuple[bool, list[str]]:
    """Write the variant's folder, and say what it has lost; False if it is there already.

    Raises DatasetError if something else lies in its place or the source cannot be turned so.
    """
    variant: Variant = VARIANTS.load(asked.variant)
    source, output = asked.source.absolute(), asked.output.absolute()
    notes: list[str] = []
    fresh = write_once(
        output,
        _card(asked, source),
        lambda aside: notes.extend(_write(aside, source, output, variant, asked.seed, n_jobs)),
        "remove it or name another --out",
    )
    return fresh, notes


def _card(asked: Asked, source: Path) -> dict[str, Any]:
    return {
        "variant": asked.variant,
        "seed": asked.seed,
        "of": str(source),
        "of_metadata_sha256": _digest(source),
        "of_card": read_card(source),
    }


def _digest(source: Path) -> str:
    with metadata.metadata_path(source).open("rb") as file:
        return sha256(file)


def _write(
    aside: Path, source: Path, output: Path, variant: Variant, seed: int, n_jobs: int
) -> list[str]:
    """Fill the folder; what is lost comes back."""
    found = _survey(source, variant)
    made: Made = {}
    notes: list[str] = []
    for name, draw in variant.draw.items():
        if found.pictures[name]:
            (aside / name).mkdir()
            made[name] = _drawn(
                draw, source / name, aside / name, list(found.pictures[name]), n_jobs, notes
            )
    if variant.exchange:
        made["images"] = _exchanged(source, found.pictures["images"], seed, notes)
    for name in sorted(set(PICTURES.values()) - variant.draw.keys()):
        if (source / name).is_dir():
            # Relative, so that a folder of datasets can be moved.
            link = os.path.relpath((source / name).resolve(), output.parent.resolve() / output.name)
            (aside / name).symlink_to(link)
    return notes + _write_records(aside, source, variant, made, found.n_rows)


@dataclass(slots=True)
class _Found:
    """What has to be known of all records before the first picture is drawn."""

    n_rows: int = 0
    # Folder → name → of which splits, one bit each.
    pictures: dict[str, dict[str, int]] = field(
        default_factory=lambda: {name: {} for name in PICTURES.values()}
    )

    def add(self, record: Record) -> None:
        self.n_rows += 1
        split = 1 << metadata.SPLITS.index(metadata.split_of(record))
        for key, of in PICTURES.items():
            if key in record:
                name = _name(record, key)
                self.pictures[of][name] = self.pictures[of].get(name, 0) | split


def _survey(source: Path, variant: Variant) -> _Found:
    """Raises DatasetError, naming record or labels, for what the variant cannot turn."""
    found, refused = _Found(), Counter[str]()
    for index, record in enumerate(metadata.records(source)):
        try:
            label = metadata.label_of(record)
            if variant.label(label) is None:
                refused[label] += 1
            else:
                _varied(record, variant, {})
            found.add(record)
        except DatasetError as error:
            raise metadata.record_error(source, index, error) from None
    if refused:
        named = ", ".join(repr(label) for label in sorted(refused)[:8])
        more = f" and {len(refused) - 8} more" if len(refused) > 8 else ""
        raise DatasetError(
            f"{metadata.metadata_path(source)}: labels {named}{more}, of {refused.total()} of "
            f"{found.n_rows} rows, {variant.cannot}; leave these rows out"
        )
    return found


def _name(record: Record, key: str) -> str:
    """A picture's, below its folder: a variant writes nowhere else."""
    name = metadata.text_of(record, key)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"has {key} {name!r}, which is not in {PICTURES[key]}/; put it there")
    return name


def _drawn(
    draw: Draw, source: Path, target: Path, names: Sequence[str], n_jobs: int, notes: list[str]
) -> dict[str, Drawn]:
    """Every picture that can be read."""
    made: dict[str, Drawn] = {}
    problems: list[str] = []
    jobs = (
        delayed(_draw_some)(draw, source, target, names[start : start + _CHUNK])
        for start in range(0, len(names), _CHUNK)
    )
    with progress("generate", target.name, len(names)) as advance:
        for chunk in Parallel(n_jobs=n_jobs, return_as="generator")(jobs):
            for name, drawn in chunk:
                if isinstance(drawn, Drawn):
                    made[name] = drawn
                else:
                    problems.append(drawn)
            advance(len(chunk))
    _say_problems(source, len(names), problems, notes)
    return made


def _draw_some(
    draw: Draw, source: Path, target: Path, names: Sequence[str]
) -> list[tuple[str, Drawn | str]]:
    """Each name with its picture, or why there is none."""
    found: list[tuple[str, Drawn | str]] = []
    for name in names:
        try:
            found.append((name, draw(source, target, name)))
        except DatasetError as error:
            found.append((name, str(error)))
    return found


def _say_problems(source: Path, n_names: int, problems: Sequence[str], notes: list[str]) -> None:
    if len(problems) == n_names:
        raise DatasetError(
            f"{source}: none of {n_names} pictures can be read; first: {problems[0]}"
        )
    if problems:
        notes.append(
            f"{len(problems)} of {n_names} pictures in {source} cannot be read and are missing "
            f"here too; first: {problems[0]}"
        )


def _exchanged(
    source: Path, images: Mapping[str, int], seed: int, notes: list[str]
) -> dict[str, Drawn]:
    """For each image another one of the same splits, so that none comes into train and test.

    Those that are not there stay missing, and do not take part.
    """
    here = [name for name in images if (source / "images" / name).is_file()]
    lost = [f"{name!r} is missing" for name in images.keys() - set(here)]
    _say_problems(source / "images", len(images), sorted(lost), notes)
    made: dict[str, Drawn] = {}
    rng = np.random.default_rng(seed)
    for splits in sorted({images[name] for name in here}):
        names = [name for name in here if images[name] == splits]
        if len(names) == 1:
            raise DatasetError(
                f"{source}: {names[0]!r} is the one image of its split, so there is none to "
                "change places with; leave its rows out"
            )
        # Each takes the next one's place on a ring in random order.
        order = rng.permutation(len(names))
        for one, other in zip(order, np.roll(order, -1), strict=True):
            made[names[one]] = Drawn(names[other], 0)
    return made


def _write_records(
    aside: Path, source: Path, variant: Variant, made: Made, n_rows: int
) -> list[str]:
    """One record a line; a count for each thing that rows have lost."""
    lost: Counter[str] = Counter()

    def lines(advance: Callable[[int], None]) -> Iterator[bytes]:
        for record in metadata.records(source):
            varied, notes = _varied(record, variant, made)
            lost.update(notes)
            yield metadata.encode_record(varied)
            advance(1)

    with progress("generate", "rows", n_rows) as advance:
        metadata.write_records(aside, lines(advance))
    return [f"{n} of {n_rows} rows are {what}" for what, n in lost.items()]


def _varied(record: Record, variant: Variant, made: Made) -> tuple[Record, tuple[str, ...]]:
    """The record with its group named, as the image's name may change."""
    label = variant.label(metadata.label_of(record))
    key = next(key for key in metadata.LABEL_KEYS if key in record)
    image = made.get("images", {}).get(metadata.text_of(record, "image_filename"))
    named = {**record, key: label, "group": metadata.group_of(record)}
    varied, notes = variant.record(named, None if image is None else image.width)
    for name, of in PICTURES.items():
        if name in varied and varied[name] in made.get(of, {}):
            varied[name] = made[of][varied[name]].name
    return varied, notes
