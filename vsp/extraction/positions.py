"""Where in a prompt the states of a position are."""

from __future__ import annotations

from collections.abc import Sequence

from vsp.models.contract import Picture, Processor, TokenizedPrompt
from vsp.storage.manifest import Sample

NAMES = ("subject", "reference")  # positions of one token


def places_of(
    processor: Processor,
    picture: Picture,
    row: TokenizedPrompt,
    sample: Sample,
    size: tuple[int, int],
    positions: Sequence[str],
) -> dict[str, tuple[int, ...]]:
    """Position → indices of the tokens whose states are averaged."""
    places = {"image": processor.image_places(picture)}
    return {position: places[position] for position in positions}
