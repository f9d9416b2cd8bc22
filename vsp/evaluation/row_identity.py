"""By what rows of two runs are known to be the same, or to be about the same picture."""

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

UNKNOWN = np.uint64(0)  # in place of the hash of a picture
_SHA256 = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class RowIdentity:
    """Hashes of rows and of their pictures, each [row].

    Two rows have the same key if their ids are equal, and their two names in either order; if they
    have no names, their groups; and if each row is a group of its own, the names of their image files
    without suffix. Variants of a dataset keep these. Rows of other datasets that happen to have the same
    ids differ in them.
    """

    key: NDArray[np.uint64]
    image: NDArray[np.uint64]  # of the SHA-256 of the image file, else of its name, or UNKNOWN

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
            np.array([_image(*row[4:]) for row in rows], np.uint64),
        )

    def take(self, rows: NDArray[np.intp]) -> RowIdentity:
        """The identities of these rows."""
        return RowIdentity(self.key[rows], self.image[rows])

    def without_common_images(self, group: NDArray[np.str_]) -> RowIdentity:
        """The same rows; if most groups [row] share pictures with others, these are UNKNOWN.

        Grey pictures of a control are equal in many groups, so they do not tell that a row was seen.
        A few copies in several groups, which `vsp plan --keep-copies` allows, do tell it.
        """
        code = np.unique(self.image, return_inverse=True)[1]
        number = np.unique(group, return_inverse=True)[1]
        n_groups = np.bincount(np.unique([code, number], axis=1)[0])
        is_shared = (n_groups[code] > 1) & (self.image != UNKNOWN)
        if 2 * len(np.unique(number[is_shared])) <= number.max() + 1:
            return self
        return RowIdentity(self.key, np.where(is_shared, UNKNOWN, self.image))


def _key(row_id: str, subject: str, reference: str, group: str, image: str) -> int:
    names = sorted((subject, reference))
    if not subject:
        # A variant may rename the image, but it keeps the group: the name of the first image.
        names = [PurePath(image if group == row_id else group).stem]
    return _hash([row_id, names])


def _image(image: str, image_sha256: str) -> int:
    """The first 64 bits of the digest; files of other programs may have none, but name the image."""
    if _SHA256.fullmatch(image_sha256):
        return int(image_sha256[:16], 16)
    return _hash(image_sha256 or image) if image_sha256 or image else int(UNKNOWN)


def _hash(value: object) -> int:
    digest = hashlib.blake2b(json.dumps(value).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
