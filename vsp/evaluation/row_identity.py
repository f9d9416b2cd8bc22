"""Hashes by which rows of two runs are recognised as the same, or as rows about the same picture."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from vsp.storage.manifest import Sample

UNKNOWN = np.uint64(0)  # in place of a hash
COMMON = np.uint64(1)  # the picture of a control, which many rows share
_SHA256 = re.compile("[0-9a-fA-F]{64}")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class RowIdentity:
    """Hashes of rows and of their pictures, each [row].

    Two rows have the same key if their ids are equal, and their two names in either order; if they
    have no names, their groups; and if each row is a group of its own, the names of their image files
    without folder and suffix. Variants of a dataset keep these. Rows of other datasets that happen to
    have the same ids differ in them, as a rule.

    Two rows have the same picture if the SHA-256 of their image files are equal; if one has none, as in
    files of other programs, if the names of the image files are.
    """

    key: NDArray[np.uint64]
    image: NDArray[np.uint64]  # of the SHA-256 of the image file, UNKNOWN or COMMON
    image_name: NDArray[np.uint64]  # UNKNOWN: the row names no image

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> RowIdentity:
        """The identities of these rows."""
        return cls.of_texts([
            (one.id, one.subject, one.reference, one.group, one.image, one.image_sha256)
            for one in samples
        ])  # fmt: skip

    @classmethod
    def of_texts(cls, rows: Sequence[tuple[str, str, str, str, str, str]]) -> RowIdentity:
        """From id, subject, reference, group, image name and SHA-256 of the image of each row."""
        return cls(
            np.array([_key(*row[:5]) for row in rows], np.uint64),
            np.array([_image(row[5]) for row in rows], np.uint64),
            np.array(
                [_hash(_plain_name(row[4])) if row[4] else UNKNOWN for row in rows], np.uint64
            ),
        )

    def take(self, rows: NDArray[np.intp]) -> RowIdentity:
        """The identities of these rows."""
        return RowIdentity(self.key[rows], self.image[rows], self.image_name[rows])

    def with_common_images(self) -> RowIdentity:
        """The same rows; if most have a picture that images of other names also show, it is COMMON.

        Grey pictures of a control are equal in many images, so they do not tell that a row was seen. A
        few copies, which `vsp plan --keep-copies` allows, do tell it.
        """
        code = np.unique(self.image, return_inverse=True)[1]
        name = np.unique(self.image_name, return_inverse=True)[1]
        n_names = np.bincount(np.unique([code, name], axis=1)[0])
        is_common = (n_names[code] > 1) & (self.image != UNKNOWN)
        if 2 * is_common.sum() <= len(is_common):
            return self
        image = np.where(is_common, COMMON, self.image)
        return RowIdentity(self.key, image, self.image_name)

    def shows_one_of(self, others: RowIdentity) -> NDArray[np.bool_]:
        """Whether each row has the picture of a row of `others` [row]."""
        known, of_others = _known(self.image), _known(others.image)
        by_digest = np.isin(self.image, others.image[of_others])
        unknown = others.image == UNKNOWN
        # A name stands in where a digest is missing on either side.
        by_any_name = np.isin(self.image_name, others.image_name[others.image != COMMON])
        by_name = np.isin(self.image_name, others.image_name[unknown])
        named = np.where(self.image == UNKNOWN, by_any_name, by_name)
        named &= (self.image_name != UNKNOWN) & (self.image != COMMON)
        return np.asarray((known & by_digest) | named)

    def same_picture(self, other: RowIdentity) -> NDArray[np.bool_]:
        """Whether row i has the picture of row i of `other` [row]."""
        both = _known(self.image) & _known(other.image)
        either = (self.image == UNKNOWN) | (other.image == UNKNOWN)
        by_name = (self.image_name == other.image_name) & (self.image_name != UNKNOWN)
        return np.asarray(np.where(both, self.image == other.image, either & by_name))


def _known(image: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.asarray((image != UNKNOWN) & (image != COMMON))


def _key(row_id: str, subject: str, reference: str, group: str, image: str) -> int:
    names = sorted((subject, reference))
    if not subject:
        # A variant may rename the image, but it keeps the group: the name of the first image.
        names = [_plain_name(image if group == row_id else group)]
    return _hash([row_id, names])


def _plain_name(image: str) -> str:
    """The name of an image file without folder, and without the suffix of a picture."""
    path = PurePath(image)
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def _image(image_sha256: str) -> int:
    """The first 64 bits of the digest; other digests that a file may name are hashed."""
    if not image_sha256:
        return int(UNKNOWN)
    if _SHA256.fullmatch(image_sha256):
        return max(2, int(image_sha256[:16], 16))
    return max(2, _hash(image_sha256))


def _hash(value: object) -> int:
    digest = hashlib.blake2b(json.dumps(value).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
