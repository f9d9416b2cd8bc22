"""The rows of a run, in their final order: row i of the manifest is column i of the store."""

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
from math import inf
from pathlib import Path
from typing import IO, Any

from vsp.errors import RunError
from vsp.utils.files import write_aside
from vsp.utils.reading import open_regular, unreadable


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and one prompt, with the label a probe should read from the model."""

    id: str
    image: str  # absolute path, as every task sees it
    prompt: str
    label: str
    group: str  # samples of one group (as a rule, one image) never straddle train and test
    split: str = ""  # "train", "val" or "test"; "" if the dataset has no splits
    image_sha256: str = ""  # of the image file, when the run was planned
    n_tokens: int = 0  # of image and prompt together
    n_shared: int = 0  # first tokens that all rows about the image have in common
    # The region of each <mask> in the prompt: a box (left, top, right, bottom) or a mask's path.
    regions: tuple[tuple[float, ...] | str, ...] = ()
    depth: str = ""  # path of the depth picture, if the prompt asks about depth
    # Names and boxes of the two objects, as far as the dataset has them. A box is (left, top, right,
    # bottom) in pixels of the upright picture. Baselines and control tasks of `vsp probe` use them.
    subject: str = ""
    reference: str = ""
    subject_box: tuple[float, ...] = ()
    reference_box: tuple[float, ...] = ()
    image_size: tuple[int, ...] = ()  # width and height
    # First and behind the last character of the names in the prompt; only while a run is planned.
    subject_span: tuple[int, ...] = ()
    reference_span: tuple[int, ...] = ()
    # Answer options of this row alone, and their tokens; empty: those of all rows, in the plan.
    options: tuple[str, ...] = ()
    option_tokens: tuple[tuple[int, ...], ...] = ()
    # Of each position but the last token: index of a name's token, or number of image tokens.
    tokens_of: tuple[tuple[str, int], ...] = ()


_encode = json.JSONEncoder(ensure_ascii=False).encode
_REPEATED = ("image", "prompt", "label", "group", "split", "image_sha256", "depth")
_NAMES = ("subject", "reference")  # manifests of older versions do not have these keys
_BOXES = ("subject_box", "reference_box", "image_size")
_BLOCK = 1 << 20  # bytes per read
_CACHED_TEXTS = 1 << 16  # equal texts share one object, to save memory


def _line(row: Sample) -> str:
    """The sample as a line of JSON; three times as fast as `json.dumps` of a mapping."""
    text = encode_basestring
    return (
        f'{{"id": {text(row.id)}, "image": {text(row.image)}, "prompt": {text(row.prompt)}, '
        f'"label": {text(row.label)}, "group": {text(row.group)}, "split": {text(row.split)}, '
        f'"image_sha256": {text(row.image_sha256)}, "n_tokens": {row.n_tokens}, '
        f'"n_shared": {row.n_shared}, "regions": {_encode(row.regions) if row.regions else "[]"}, '
        f'"depth": {text(row.depth)}, "subject": {text(row.subject)}, '
        f'"reference": {text(row.reference)}, "subject_box": {_encode(row.subject_box)}, '
        f'"reference_box": {_encode(row.reference_box)}, "image_size": {_encode(row.image_size)}'
        f"{_later_keys(row)}}}\n"
    )


def _later_keys(row: Sample) -> str:
    """The keys of positions and of a row's own options, which few manifests have."""
    values: dict[str, Any] = {"options": row.options, "option_tokens": row.option_tokens}
    values["tokens_of"] = dict(row.tokens_of)
    return "".join(f', "{key}": {_encode(value)}' for key, value in values.items() if value)


class Manifest:
    """A file of samples as JSON lines, in one slice per shard.

    A task reads only its own slice, and checks its SHA-256 and the length of the file first.
    """

    def __init__(
        self,
        path: Path,
        starts: Sequence[int],
        offsets: Sequence[int],
        digests: Sequence[str],
        most_options: float = inf,
    ) -> None:
        """`starts`: the first row of each slice, then the number of rows. `offsets`: the byte where
        each slice begins, then the file's length. `digests`: the SHA-256 of each slice.
        `most_options`: options with tokens that a row may have."""
        self._most_options = most_options
        self.path = path
        self.starts = tuple(starts)
        self.offsets = tuple(offsets)
        self.digests = tuple(digests)

    @classmethod
    def write(cls, path: Path, samples: Iterable[Sample], starts: Sequence[int]) -> Manifest:
        """Write the samples; `starts` as for the constructor."""
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
        """Raise RunError if a slice or the length of the file has changed."""
        with self._opened() as file:
            self._check(file, index)

    def check_length(self) -> None:
        """Raise RunError if the length of the file has changed; reads nothing."""
        with self._opened() as file:
            self._check_length(file)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """Yield samples start, …, stop - 1 in row order; slices without them are not read.

        Raises RunError if a slice was changed, before its first row.
        """
        stop = self.starts[-1] if stop is None else stop
        same = lru_cache(_CACHED_TEXTS)(str)
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
            file = open_regular(self.path)
        except FileNotFoundError:
            raise self._changed("") from None
        except OSError as error:
            raise RunError(f"{self.path}: {unreadable(error)}; plan the run again") from None
        with file:
            yield file

    def _check(self, file: IO[bytes], index: int) -> None:
        self._check_length(file)
        start, stop = self.offsets[index : index + 2]
        file.seek(start)
        digest = hashlib.sha256()
        for at in range(start, stop, _BLOCK):
            digest.update(file.read(min(_BLOCK, stop - at)))
        if digest.hexdigest() != self.digests[index]:
            raise self._changed(f" the slice of shard {index}")

    def _check_length(self, file: IO[bytes]) -> None:
        if file.seek(0, os.SEEK_END) != self.offsets[-1]:
            raise self._changed("")

    def _changed(self, what: str) -> RunError:
        return RunError(
            f"{self.path}:{what} was changed or lost since the plan; plan the run again"
        )

    def _sample(self, row: int, line: bytes, same: Callable[[str], str]) -> Sample:
        try:
            values = json.loads(line)
            regions = (r if isinstance(r, str) else tuple(r) for r in values.pop("regions"))
            values |= {name: same(values[name]) for name in _REPEATED}
            values |= {name: same(values[name]) for name in _NAMES if name in values}
            values |= {name: tuple(values[name]) for name in _BOXES if name in values}
            if "options" in values:
                values["options"] = tuple(map(str, values["options"]))
            if "option_tokens" in values:
                tokens = tuple(tuple(map(_count, one)) for one in values["option_tokens"])
                n_options = len(values.get("options", ()))
                if not (0 < n_options == len(tokens) <= self._most_options and all(tokens)):
                    raise ValueError
                values["option_tokens"] = tokens
            of = values.get("tokens_of", {})
            values["tokens_of"] = tuple((name, _count(number)) for name, number in of.items())
            return Sample(**values, regions=tuple(regions))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise RunError(f"{self.path}: row {row} is not a sample; plan the run again") from None


def _count(value: object) -> int:
    """A number of JSON from 0. Raises ValueError for any other value."""
    if type(value) is not int or value < 0:
        raise ValueError
    return value
