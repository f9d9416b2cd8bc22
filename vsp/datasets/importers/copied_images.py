"""Copies among the images that an import opens, and the splits that they are in."""

from __future__ import annotations

from collections import defaultdict

from vsp.datasets.image_copies import CopyFinder, ImageCopies, Signature, joined_groups
from vsp.datasets.importers.annotations import Picture
from vsp.datasets.importers.kept_rows import KeptRows, image_key


class CopiedImages:
    """Takes the opened images; a context manager."""

    def __init__(self) -> None:
        self._finder = CopyFinder()
        self._splits: dict[str, set[str]] = defaultdict(set)

    def __enter__(self) -> CopiedImages:
        return self

    def __exit__(self, *error: object) -> None:
        self._finder.__exit__(*error)

    def add(self, picture: Picture, file_sha256: str, signature: Signature) -> None:
        """Add the image of a picture; an image may have a picture in each split."""
        if picture.image not in self._splits:
            self._finder.add(picture.image, file_sha256, signature)
        self._splits[picture.image].add(picture.split)

    def note_and_join(self, rows: KeptRows, join: bool) -> list[str]:
        """Notes about the copies. If `join` is true, copies count as one image when splits are
        chosen: their rows get the same group in `rows`."""
        copies = self._finder.find()
        if not copies.n_copies or copies.shows_one:
            return copies.notes()
        if join:
            _join(rows, copies)
            return [f"{copies.sentence()}; they count as one image when splits are chosen"]
        notes = [copies.sentence()]
        straddling = copies.straddling(self._splits)
        if straddling:
            notes.append(
                f"{straddling[0].sentence(len(straddling))}; `vsp plan` will refuse that: --resplit "
                "makes new splits by image, --drop shared-image keeps copies in the later split only"
            )
        return notes


def _join(rows: KeptRows, copies: ImageCopies) -> None:
    groups_of_image: dict[int, list[int]] = defaultdict(list)
    for image, group in zip(rows.images, rows.groups, strict=True):
        groups_of_image[image_key(image)].append(group)
    joined = joined_groups(
        [
            [group for name in names for group in groups_of_image[image_key(name)]]
            for names in copies.sets()
        ]
    )
    for groups in (rows.group, rows.groups):
        for i, group in enumerate(groups):
            groups[i] = joined.get(group, group)
