"""The rows of a run, in their final order. Row i here is column i of the store, for ever."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from json.encoder import encode_basestring
from pathlib import Path
from typing import IO

from vsp.errors import RunError
from vsp.utils.files import write_aside


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and one prompt, with the label a probe should read from the model."""

    id: str
    image: str  # absolute path, as every task sees it
    prompt: str
    label: str
    group: str  # samples of one group (as a rule, one image) never straddle train and test
    split: str = ""  # "train", "val" or "test" where the dataset says; "" where it does not
    image_sha256: str = ""  # of the image file when the run was planned
    n_tokens: int = 0  # of prompt and image, as the model reads them
    n_shared: int = 0  # of these, with which the row's neighbours about the image begin too
    # What each <mask> of the prompt means: a box (left, top, right, bottom) or a mask's path.
    regions: tuple[tuple[float, ...] | str, ...] = ()
    depth: str = ""  # path of the depth picture, where the prompt asks about it


_encode = json.JSONEncoder(ensure_ascii=False).encode
_REPEATED = ("image", "prompt", "label", "group", "split", "image_sha256", "depth")
_BLOCK = 1 << 20  # bytes read at a time
_REMEMBERED = 1 << 16  # texts at most that are one object in all the rows that hold them


def _line(row: Sample) -> str:
    """The sample in JSON; of a mapping of its fields json takes three times as long to make it."""
    text = encode_basestring
    return (
        f'{{"id": {text(row.id)}, "image": {text(row.image)}, "prompt": {text(row.prompt)}, '
        f'"label": {text(row.label)}, "group": {text(row.group)}, "split": {text(row.split)}, '
        f'"image_sha256": {text(row.image_sha256)}, "n_tokens": {row.n_tokens}, '
        f'"n_shared": {row.n_shared}, "regions": {_encode(row.regions) if row.regions else "[]"}, '
        f'"depth": {text(row.depth)}}}\n'
    )


class Manifest:
    """A file of samples as JSON lines, cut into slices, one for each shard.

    A task reads its slice alone. A slice is known again by its SHA-256, the file by its slices:
    all of them in order, and nothing behind the last.
    """

    def __init__(
        self, path: Path, starts: Sequence[int], offsets: Sequence[int], digests: Sequence[str]
    ) -> None:
        """`starts` are the slices' first rows and, last, the number of all rows; `offsets` the
        bytes at which these begin and, last, the file's length."""
        self.path = path
        self.starts = tuple(starts)
        self.offsets = tuple(offsets)
        self.digests = tuple(digests)

    @classmethod
    def write(cls, path: Path, samples: Iterable[Sample], starts: Sequence[int]) -> Manifest:
        """Write the rows; `starts` as above."""
        rows, offsets, digests = iter(samples), [0], []
        with write_aside(path) as file:
            for start, stop in pairwise(starts):
                digest = hashlib.sha256()
                for sample in islice(rows, stop - start):
                    line = _line(sample).encode()
                    digest.update(line)
                    file.write(line)
                offsets.append(file.tell())
                digests.append(digest.hexdigest())
        return cls(path, starts, offsets, digests)

    def check(self, index: int) -> None:
        """Raise RunError unless a slice, and the file's length, are what they were."""
        with self._opened() as file:
            self._check(file, index)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """Samples start, …, stop - 1, in row order; no slice is read in which none of them is.

        Raises RunError, before the first row of a slice, if the slice was changed.
        """
        stop = self.starts[-1] if stop is None else stop
        same = lru_cache(_REMEMBERED)(str)
        with self._opened() as file:
            for index, (first, behind) in enumerate(pairwise(self.starts)):
                if first < stop and start < behind:
                    self._check(file, index)
                    file.seek(self.offsets[index])
                    for row in range(first, min(behind, stop)):
                        line = file.readline()
                        if row >= start:
                            yield self._sample(row, line, same)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            raise self._changed("") from None
        with file:
            yield file

    def _check(self, file: IO[bytes], index: int) -> None:
        if file.seek(0, os.SEEK_END) != self.offsets[-1]:
            raise self._changed("")
        start, stop = self.offsets[index : index + 2]
        file.seek(start)
        digest = hashlib.sha256()
        for at in range(start, stop, _BLOCK):
            digest.update(file.read(min(_BLOCK, stop - at)))
        if digest.hexdigest() != self.digests[index]:
            raise self._changed(f" the slice of shard {index}")

    def _changed(self, what: str) -> RunError:
        return RunError(
            f"{self.path}:{what} was changed or lost since the plan; plan the run again"
        )

    def _sample(self, row: int, line: bytes, same: Callable[[str], str]) -> Sample:
        try:
            values = json.loads(line)
            regions = (r if isinstance(r, str) else tuple(r) for r in values.pop("regions"))
            values |= {name: same(values[name]) for name in _REPEATED}
            return Sample(**values, regions=tuple(regions))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise RunError(f"{self.path}: row {row} is not a sample; plan the run again") from None
