"""Groups in which one prompt about one image is computed with several settings of edits.

Settings that leave the image alone share the image and the prompt up to the first edited token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from vsp.models.contract import Picture, PromptGroup, TokenizedPrompt
from vsp.models.edits import Edit


def settings_group(
    picture: Picture,
    row: TokenizedPrompt,
    edits_of_settings: Sequence[Sequence[Edit]],
    first_row: int = 0,
) -> tuple[list[PromptGroup], list[Edit]]:
    """Groups with a row for each setting, in the order of the settings, and the edits of all.

    `first_row` is the number of rows before these in the batch: setting s is row first_row + s. The
    edits' own `row` is replaced by it; rows that `Copy` names are those of the batch already. An empty
    setting changes nothing. Settings that edit tokens up to the image's last one get a group each;
    neighbours of the other settings share one group.
    """
    edits = [
        replace(edit, row=first_row + number)
        for number, setting in enumerate(edits_of_settings)
        for edit in setting
    ]
    starts = [_first_edited(setting, row) for setting in edits_of_settings]
    return list(_groups(picture, row, starts)), edits


def _first_edited(setting: Sequence[Edit], row: TokenizedPrompt) -> int:
    """The first token that a setting edits; without edits, the last token, which each row keeps."""
    last = len(row.tokens) - 1
    return min((token for edit in setting for token in edit.tokens), default=last)


def _groups(picture: Picture, row: TokenizedPrompt, starts: Sequence[int]) -> Iterator[PromptGroup]:
    n_image = len(picture.tokens)
    for shares, some in groupby(starts, key=lambda start: start >= n_image):
        neighbours = list(some)
        if shares and len(neighbours) > 1:
            yield PromptGroup(picture, (row,) * len(neighbours), min(neighbours))
        else:
            yield from (PromptGroup(picture, (row,), 0) for _ in neighbours)
