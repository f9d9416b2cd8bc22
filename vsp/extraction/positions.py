"""Where in a prompt the states of a position are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vsp.choices import split_position
from vsp.errors import InputError
from vsp.models.contract import Picture, Processor, TokenizedPrompt
from vsp.storage.manifest import Sample

NAMES = ("subject", "reference")  # positions of one token
_BOX = "-box"  # the end of positions of the image tokens in an object's box


def places_of(
    processor: Processor,
    picture: Picture,
    row: TokenizedPrompt,
    sample: Sample,
    size: tuple[int, int],
    positions: Sequence[str],
) -> dict[str, tuple[int, ...]]:
    """Position → indices of the tokens, or of the vision tower's patches, that are averaged.

    A name's place is its last token, a box's places are the image tokens or patches with their
    centre in the box. `size` is the image's width and height. Raises InputError, with position and reason,
    if a position has no place.
    """
    places: dict[str, tuple[int, ...]] = {}
    for position in positions:
        module, place = split_position(position)
        try:
            if position in NAMES:
                places[position] = _name_place(processor, picture, row, sample, position)
            elif place.endswith(_BOX):
                places[position] = _box_places(processor, picture, sample, size, position)
            elif module == "vision":
                x = processor.tower_centres(picture, size)[:, 0]
                places[position] = tuple(np.flatnonzero(~np.isnan(x)).tolist())
            else:
                places[position] = processor.image_places(picture)
        except InputError as error:
            raise InputError(f"position {position}: {error}") from None
    return places


def _name_place(
    processor: Processor, picture: Picture, row: TokenizedPrompt, sample: Sample, part: str
) -> tuple[int, ...]:
    """The last token of an object's name."""
    name, span = getattr(sample, part), getattr(sample, f"{part}_span")
    if not name:
        raise InputError(f"the dataset names no {part} for this row")
    if not span:
        raise InputError(
            f"the prompt has no words {name!r} that belong to the {part} alone; use another --prompt"
        )
    return processor.name_tokens(picture, row, sample.prompt, *span)[-1:]


def _box_places(
    processor: Processor, picture: Picture, sample: Sample, size: tuple[int, int], position: str
) -> tuple[int, ...]:
    """The image tokens or patches whose centre lies in an object's box and in the image."""
    module, place = split_position(position)
    part = place.removesuffix(_BOX)
    box = getattr(sample, f"{part}_box")
    if not box:
        raise InputError(f"the dataset has no {part}_box for this row")
    left, top, right, bottom = box
    if module == "vision":
        centres = processor.tower_centres(picture, size)
        indices = np.arange(len(centres))
    else:
        centres = processor.patch_centres(picture, size)
        indices = np.array(processor.image_places(picture))
    x, y = centres[:, 0] * size[0], centres[:, 1] * size[1]
    within = (x >= max(left, 0)) & (x < min(right, size[0]))
    within &= (y >= max(top, 0)) & (y < min(bottom, size[1]))
    places = indices[within]
    if not len(places):
        what = "patches" if module == "vision" else "image tokens"
        cut = "; the model cuts off the edges of images that are not square"
        raise InputError(
            f"none of the {len(centres)} {what} has its centre in the box {list(box)} of an "
            f"image of {size[0]} × {size[1]}{cut if processor.crops and size[0] != size[1] else ''}"
        )
    return tuple(places.tolist())
