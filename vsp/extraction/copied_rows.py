"""Rows about images that are copies of each other: joins their groups, and checks their splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from vsp.datasets.image_copies import ImageCopies, Straddling, joined_groups
from vsp.errors import DatasetError
from vsp.storage.manifest import Sample

_MAX_LISTED = 20  # copies in an error


def copy_notes(samples: Sequence[Sample], copies: ImageCopies, keep: bool) -> list[str]:
    """A note about the copies, if there are any.

    Raises DatasetError if copies are in several splits, unless `keep` is true.
    """
    if not copies.n_copies:
        return []
    if copies.shows_one:
        return [f"{copies.notes()[0]}; rows keep the groups of the dataset"]
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        splits[sample.image].add(sample.split)
    straddling = copies.straddling(splits)
    if straddling and not keep:
        raise _refusal(straddling)
    if not keep:
        return [f"{copies.sentence()}; their rows are in one group"]
    note = f"{copies.sentence()}; --keep-copies leaves their rows in the groups of the dataset"
    if straddling:
        note += f", and {straddling[0].sentence(len(straddling))}"
    return [note]


def _refusal(straddling: Sequence[Straddling]) -> DatasetError:
    more = len(straddling) - _MAX_LISTED
    return DatasetError(
        f"{straddling[0].sentence(len(straddling))}, so test rows leak into training; put copies in "
        "one split (`vsp import --check --resplit` does), or plan with --keep-copies",
        [
            *(one.pair() for one in straddling[:_MAX_LISTED]),
            *([f"… and {more:,} more"] if more > 0 else []),
        ],
    )


def join_groups(samples: list[Sample], copies: ImageCopies) -> None:
    """Give rows about copies one group, in place; rows that share a group keep sharing it."""
    if not copies.n_copies or copies.shows_one:
        return
    groups_of_image: dict[str, dict[str, None]] = defaultdict(dict)
    for sample in samples:
        groups_of_image[sample.image][sample.group] = None
    joined = joined_groups(
        [
            [group for image in images for group in groups_of_image.get(image, ())]
            for images in copies.sets()
        ]
    )
    for row, sample in enumerate(samples):
        group = joined.get(sample.group, sample.group)
        if group != sample.group:
            samples[row] = replace(sample, group=group)
