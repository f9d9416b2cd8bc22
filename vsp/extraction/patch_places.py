"""The tokens of rows that a patch changes, counted without their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from PIL import Image

from vsp.choices import LAST
from vsp.errors import InputError, RunError
from vsp.extraction.positions import NAMES, places_of
from vsp.extraction.preprocess import make_picture
from vsp.extraction.row_edits import ALL_TOKENS, BOX
from vsp.models.contract import Picture, Processor, TokenizedPrompt
from vsp.storage.manifest import Sample

_POSITIONS = {BOX: ("subject-box", "reference-box"), LAST: (), ALL_TOKENS: ()}


def positions_of(names: Sequence[str]) -> list[str]:
    """The positions that hold the tokens of these names."""
    return [place for name in names for place in _POSITIONS.get(name, (name,))]


class PlaceCounter:
    """Adds the tokens of names to samples, as the plan of a run does for its positions."""

    def __init__(self, processor: Processor, names: Sequence[str]) -> None:
        self._processor = processor
        self._positions = positions_of(names)
        self._blank = lru_cache(64)(self._picture)

    def count(self, sample: Sample, run: str) -> Sample:
        """The sample with the tokens of these positions alone; those that it lacks are left out.

        Raises RunError if the run did not look for the tokens of a name.
        """
        known = dict(sample.tokens_of)
        found: list[tuple[str, int]] = []
        for position in self._positions:
            if position in known:
                found.append((position, known[position]))
            elif position in NAMES:
                raise RunError(
                    f"run {run}: position {position} was not recorded, so its tokens are not known; "
                    f"leave {position} out of --tokens, or record it with `vsp plan --positions {position}`"
                )
            else:
                found += self._counted(sample, position)
        return replace(sample, tokens_of=tuple(found))

    def _counted(self, sample: Sample, position: str) -> list[tuple[str, int]]:
        if len(sample.image_size) != 2:
            return []
        size = sample.image_size[0], sample.image_size[1]
        picture = self._blank(size, sample.depth)
        row = TokenizedPrompt(picture.tokens, 0)
        try:
            places = places_of(self._processor, picture, row, sample, size, [position])
        except InputError:
            return []
        return [(position, len(places[position]))]

    def _picture(self, size: tuple[int, int], depth: str) -> Picture:
        return make_picture(self._processor, Image.new("RGB", size), depth)
