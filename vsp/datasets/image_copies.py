"""Finds images that show the same picture under several names.

Copies are of three kinds: equal files, equal pixels (another format or other metadata), and near
copies (recompressed, resized, slightly brightened). Rows about copies belong on the same side of a
split: a probe would otherwise be tested on pictures that it was fitted to.

Near copies are searched by 15 low frequencies of the brightness, then compared block by block in a
thumbnail of 48 × 48 cells. A block may differ more where the picture has an edge, since resizing and
JPEG change edges; a moved object also changes blocks without an edge. The limits were set so that no
two of 3,000 pictures of a synthetic world are copies (see docs/datasets.md).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, islice
from pathlib import Path, PurePath
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.utils.files import disk_errors
from vsp.utils.text import format_count

_SIDE = 48  # cells of a thumbnail along each side, whatever the shape of the picture
_SIDES = (48, 24, 12)  # sides at which two thumbnails may be compared
_PIXELS_A_CELL = 3  # at least, along each side; fewer would compare the filters of resizing
_N_FREQUENCIES = 4  # along each axis, with the constant one
_BYTES = (
    _SIDE * _SIDE + 2 * (_SIDE // 2) ** 2
)  # of a thumbnail: brightness, and colour at half size
_LEAST_CONTRAST = (
    1.0  # standard deviation, in grey levels; below it, a thumbnail holds rounding only
)

# A block may differ by `_LEVELS` grey levels plus `_EDGE` times the range of its neighbourhood, times
# the limit of its channel. JPEG stores colour at half size or less, so its limit is wider.
_LEVELS, _EDGE = 3.0, 0.1
_BRIGHTNESS_LIMIT, _COLOUR_LIMIT = 1.2, 4.0
_MOST_UNEXPLAINED = 0.3  # root mean square of the difference, as a share of the contrast
_GAINS = (0.8, 1.25)  # of brightness
_SAME_ASPECT = 0.02  # relative difference of width / height, which resizing rounds

_N_NEIGHBOURS = 8  # candidates of each picture
_CANDIDATE_RADIUS = 0.25  # between unit vectors of low frequencies
_MOST_BY_PRODUCT = 3000  # pictures whose distances are computed all at once
_PAIRS_AT_ONCE = 512

Group = TypeVar("Group", bound=Hashable)


def _cosines() -> NDArray[np.float32]:
    """The lowest frequencies [frequency, cell] of a cosine transform."""
    cells = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    return np.cos(np.arange(_N_FREQUENCIES)[:, None] * cells).astype(np.float32)


_COSINES = _cosines()


@dataclass(frozen=True, slots=True)
class Signature:
    """Digest and thumbnail of a picture; those of its copies are equal or similar."""

    pixels: bytes  # digest of the size and all RGB values
    size: tuple[int, int]  # width, height
    thumbnail: bytes  # brightness 48 × 48, then two channels of colour, 24 × 24 each


def signature(picture: Image.Image) -> Signature:
    """The signature of an RGB picture; independent of its file format."""
    digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode())
    digest.update(np.ascontiguousarray(picture).data)
    # This filter weighs all pixels of a cell, unlike BOX, whose cells end between pixels.
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR).convert("YCbCr")
    half = small.resize((_SIDE // 2, _SIDE // 2), Image.Resampling.BOX)
    thumbnail = b"".join(
        channel.tobytes()
        for channel in (small.getchannel(0), half.getchannel(1), half.getchannel(2))
    )
    return Signature(digest.digest()[:16], picture.size, thumbnail)


@dataclass(frozen=True, slots=True)
class Straddling:
    """Two images that are copies and are in different splits."""

    one: str
    other: str
    one_split: str
    other_split: str

    def pair(self) -> str:
        """The two names with their splits."""
        one, other = _short_names(self.one, self.other)
        return f"{one} ({self.one_split}) and {other} ({self.other_split})"

    def sentence(self, n: int) -> str:
        """That `n` pictures are in several splits, with this one as an example."""
        are = "picture is" if n == 1 else "pictures are"
        return f"{n:,} {are} in several splits under different names, for example {self.pair()}"


@dataclass(frozen=True, slots=True)
class ImageCopies:
    """Which images are copies of each other."""

    names: tuple[str, ...]
    picture: NDArray[np.intp]  # [image] a number; images that are copies have the same one
    n_equal_files: int  # images whose file equals that of an earlier image
    n_equal_pixels: int  # further images whose pixels equal those of an earlier image
    n_near: int  # further images that are near copies
    shows_one: bool = False  # all images, of any size, show the same picture, as in a control

    @property
    def n_copies(self) -> int:
        """Images that are copies of an earlier image."""
        return self.n_equal_files + self.n_equal_pixels + self.n_near

    def sets(self) -> list[list[str]]:
        """The names of the images of each picture that has several, in order of appearance."""
        members: dict[int, list[str]] = {}
        for name, picture in zip(self.names, self.picture.tolist(), strict=True):
            members.setdefault(picture, []).append(name)
        return [names for names in members.values() if len(names) > 1]

    def notes(self) -> list[str]:
        """A note if there are copies, without what becomes of their rows."""
        if self.shows_one:
            return [f"all {len(self.names):,} images show the same picture, as in a control"]
        return [self.sentence()] if self.n_copies else []

    def sentence(self) -> str:
        """The number of copies of each kind, and an example; there must be a copy."""
        kinds = {
            "equal files": self.n_equal_files,
            "equal pixels": self.n_equal_pixels,
            "near copies": self.n_near,
        }
        counts = ", ".join(f"{kind} {n:,}" for kind, n in kinds.items() if n)
        one, other = _short_names(*self.sets()[0][:2])
        are = "is a copy" if self.n_copies == 1 else "are copies"
        return (
            f"{format_count(self.n_copies, 'image')} {are} of other images ({counts}; for example "
            f"{one} and {other})"
        )

    def straddling(self, splits: Mapping[str, Collection[str]]) -> list[Straddling]:
        """One pair of images for each picture that is in several splits under different names.

        `splits` has the splits of each image; "" is no split.
        """
        found = []
        for names in self.sets():
            places = [(name, split) for name in names for split in sorted(splits.get(name, ()))]
            pairs = (
                Straddling(one, other, split, other_split)
                for (one, split), (other, other_split) in combinations(places, 2)
                if one != other and split != other_split and split and other_split
            )
            found += list(islice(pairs, 1))
        return found


def _short_names(one: str, other: str) -> tuple[str, str]:
    """The names without the folders that they have in common."""
    folder = os.path.commonpath([PurePath(one).parent, PurePath(other).parent])
    return os.path.relpath(one, folder or "."), os.path.relpath(other, folder or ".")


class CopyFinder:
    """Takes the images one by one, then finds the copies; a context manager.

    Thumbnails, 3.5 KB for each distinct picture, lie in a temporary file.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._file: list[int] = []  # [image] the first image with the same file
        self._first_of_file: dict[str, int] = {}
        self._pixels: list[int] = []  # [image] number of its distinct picture
        self._distinct: dict[bytes, int] = {}
        self._aspect: list[float] = []  # of each distinct picture
        self._least: list[int] = []  # the smaller of its width and height
        self._thumbnail = b""  # of the first image
        self._differ = False  # whether another image has another thumbnail
        self._thumbnails: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> CopyFinder:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # bytes that a full disk did not take are not needed any more
            self._thumbnails.close()

    def add(self, name: str, file_sha256: str, signature: Signature) -> None:
        """Add an image; each name is added once. Raises DiskError if the temporary disk is full."""
        image = len(self._names)
        self._names.append(name)
        self._file.append(self._first_of_file.setdefault(file_sha256, image))
        number = self._distinct.setdefault(signature.pixels, len(self._distinct))
        self._pixels.append(number)
        if number == len(self._aspect):
            width, height = signature.size
            self._aspect.append(width / height)
            self._least.append(min(width, height))
            with disk_errors(Path(tempfile.gettempdir())):
                self._thumbnails.write(signature.thumbnail)
            self._thumbnail = self._thumbnail or signature.thumbnail
            self._differ = self._differ or self._thumbnail != signature.thumbnail

    def find(self) -> ImageCopies:
        """All copies among the images added so far."""
        n_images, n_distinct = len(self._names), len(self._distinct)
        n_files = len(self._first_of_file)
        pairs = self._near_pairs()
        joined = joined_groups(pairs.tolist())
        picture = np.asarray([joined.get(i, i) for i in range(n_distinct)], np.intp)
        n_pictures = len(np.unique(picture))
        return ImageCopies(
            tuple(self._names),
            picture[np.asarray(self._pixels, np.intp)],
            n_images - n_files,
            n_files - n_distinct,
            n_distinct - n_pictures,
            n_images > 1 and not self._differ,
        )

    def _near_pairs(self) -> NDArray[np.intp]:
        """Pairs [pair, 2] of distinct pictures that are near copies."""
        with disk_errors(Path(tempfile.gettempdir())):
            self._thumbnails.flush()
        n = len(self._distinct)
        if n < 2:
            return np.empty((0, 2), np.intp)
        thumbnails = np.memmap(self._thumbnails, np.uint8, "r", shape=(n, _BYTES))
        pairs = _candidates(thumbnails)
        aspect, least = np.asarray(self._aspect), np.asarray(self._least)
        one, other = aspect[pairs].T
        pairs = pairs[np.abs(one - other) <= _SAME_ASPECT * np.maximum(one, other)]
        cells = least[pairs].min(axis=1) // _PIXELS_A_CELL
        near = np.zeros(len(pairs), np.bool_)
        for side, larger in zip(_SIDES, (np.inf, *_SIDES), strict=False):
            fits = (cells < larger) & ((cells >= side) | (side == _SIDES[-1]))
            near[fits] = _are_near(thumbnails, pairs[fits], side)
        found: NDArray[np.intp] = pairs[near]
        return found


def _candidates(thumbnails: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Pairs [pair, 2] of pictures with about the same low frequencies, each pair once."""
    waves = np.empty((len(thumbnails), _N_FREQUENCIES**2 - 1), np.float32)
    contrast = np.empty(len(thumbnails), np.float32)
    for start in range(0, len(thumbnails), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        grey = thumbnails[some, : _SIDE * _SIDE].reshape(-1, _SIDE, _SIDE).astype(np.float32)
        waves[some] = (_COSINES @ grey @ _COSINES.T).reshape(len(grey), -1)[:, 1:]
        contrast[some] = grey.std(axis=(1, 2))
    usable = np.flatnonzero(contrast >= _LEAST_CONTRAST)
    if len(usable) < 2:
        return np.empty((0, 2), np.intp)
    directions = waves[usable]
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-6)
    k = min(_N_NEIGHBOURS + 1, len(usable))  # each picture is its own neighbour
    distance, neighbour = _neighbours(directions, k)
    own, place = np.nonzero(np.isfinite(distance))
    pairs = np.stack([own, neighbour[own, place]], axis=1)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    found: NDArray[np.intp] = usable[np.unique(pairs, axis=0)]
    return found


def _neighbours(
    directions: NDArray[np.float32], k: int
) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
    """Distance and index [picture, k] of the nearest; the distance is infinite beyond the radius."""
    if len(directions) > _MOST_BY_PRODUCT:
        from scipy.spatial import KDTree  # not needed, and slow to import, for few pictures

        distance, neighbour = KDTree(directions).query(
            directions, k, distance_upper_bound=_CANDIDATE_RADIUS
        )
        return distance, neighbour
    squares = np.maximum(2 - 2 * directions @ directions.T, 0)
    neighbour = np.argpartition(squares, k - 1, axis=1)[:, :k]
    distance = np.sqrt(np.take_along_axis(squares, neighbour, axis=1))
    distance[distance > _CANDIDATE_RADIUS] = np.inf
    return distance, neighbour


def _are_near(
    thumbnails: NDArray[np.uint8], pairs: NDArray[np.intp], side: int
) -> NDArray[np.bool_]:
    """A mask [pair] of the near copies, compared in `side` × `side` cells."""
    near = np.zeros(len(pairs), np.bool_)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        one, other = (thumbnails[pairs[some, i]] for i in (0, 1))
        near[some] = _are_same(one, other, side)
    return near


def _are_same(one: NDArray[np.uint8], other: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    """A mask [pair] of thumbnails [pair, byte] that differ no more than copies do."""
    grey, other_grey = (_cells(t[:, : _SIDE * _SIDE], _SIDE, side) for t in (one, other))
    centred, other_centred = (g - g.mean(axis=(1, 2), keepdims=True) for g in (grey, other_grey))
    variance = (centred**2).mean(axis=(1, 2))
    gain = (centred * other_centred).mean(axis=(1, 2)) / np.maximum(variance, 1e-6)
    gain = np.clip(gain, *_GAINS)[:, None, None]
    difference = other_centred - gain * centred
    unexplained = (difference**2).mean(axis=(1, 2))
    same = np.asarray(unexplained <= _MOST_UNEXPLAINED**2 * variance)
    np.logical_and(same, _are_within(difference, grey, other_grey, _BRIGHTNESS_LIMIT), out=same)
    for channel in range(2):
        half = _SIDE // 2
        part = slice(_SIDE**2 + channel * half**2, _SIDE**2 + (channel + 1) * half**2)
        colour, other_colour = (_cells(t[:, part], half, min(side, half)) for t in (one, other))
        difference = (other_colour - 128) - gain * (colour - 128)
        np.logical_and(same, _are_within(difference, colour, other_colour, _COLOUR_LIMIT), out=same)
    return same


def _are_within(
    difference: NDArray[np.float32],
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    limit: float,
) -> NDArray[np.bool_]:
    """A mask [pair]: whether no block of [pair, cell, cell] differs more than copies may."""
    tolerance = _LEVELS + _EDGE * np.maximum(_local_range(one), _local_range(other))
    return np.asarray(np.all(np.abs(difference) <= limit * tolerance, axis=(1, 2)))


def _local_range(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The range of each cell and its eight neighbours."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    high, low = padded, padded
    for axis in (1, 2):
        n = padded.shape[axis] - 2
        high = _over_three(np.maximum, high, n, axis)
        low = _over_three(np.minimum, low, n, axis)
    span: NDArray[np.float32] = high - low
    return span


def _over_three(
    larger_or_smaller: np.ufunc, values: NDArray[np.float32], n: int, axis: int
) -> NDArray[np.float32]:
    """The largest or smallest of each `n` triples of neighbours along an axis."""
    shifted = (values.take(range(i, i + n), axis) for i in range(3))
    result: NDArray[np.float32] = reduce(larger_or_smaller, shifted)
    return result


def _cells(flat: NDArray[np.uint8], side: int, fewer: int) -> NDArray[np.float32]:
    """Values [picture, cell, cell], averaged to `fewer` cells along each side."""
    k = side // fewer
    cells = flat.reshape(len(flat), fewer, k, fewer, k).astype(np.float32)
    mean: NDArray[np.float32] = cells.mean(axis=(2, 4))
    return mean


def joined_groups(groups: Sequence[Sequence[Group]]) -> dict[Group, Group]:
    """For sets of groups to join: group → the first group of all that are joined with it.

    Groups that are joined with no other are not in the result.
    """
    first: dict[Group, Group] = {}

    def root(group: Group) -> Group:
        while first.setdefault(group, group) != group:
            first[group] = first[first[group]]
            group = first[group]
        return group

    for one, *others in groups:
        for other in others:
            first[root(other)] = root(one)
    return {group: root(group) for group in list(first)}
