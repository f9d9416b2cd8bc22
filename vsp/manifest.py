"""The rows of a run, in their final order. Row i here is column i of the store, for ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

from vsp.errors import RunError
from vsp.files import written_aside


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


_FIELDS = {field.name for field in fields(Sample)}


class Manifest:
    """A file of samples as JSON lines, read in slices so that a task holds only its own rows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def write(path: Path, samples: Iterable[Sample]) -> str:
        """Write the rows; return the SHA-256 of the file, by which a run knows it again."""
        digest = hashlib.sha256()
        with written_aside(path) as file:
            for sample in samples:
                line = json.dumps(asdict(sample), ensure_ascii=False).encode() + b"\n"
                digest.update(line)
                file.write(line)
        return digest.hexdigest()

    def digest(self) -> str:
        """SHA-256 of the file as it is now."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """Samples start, …, stop - 1, in row order. Raises RunError if a line is no sample."""
        with self.path.open("rb") as file:
            for number, line in enumerate(islice(file, start, stop), start=start):
                yield self._sample(number, line)

    def _sample(self, row: int, line: bytes) -> Sample:
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or not values.keys() <= _FIELDS:
                raise ValueError
            regions = values.pop("regions", [])
            boxes = tuple(box if isinstance(box, str) else tuple(box) for box in regions)
            return Sample(**values, regions=boxes)
        except (ValueError, TypeError):
            raise RunError(
                f"{self.path}: row {row} is not a sample; the file was edited, plan the run again"
            ) from None
