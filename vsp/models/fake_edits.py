"""What edits do to the states of the fake model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vsp.models.edits import Add, Copy, Edit

_States = NDArray[np.floating]  # [layer, hidden]


class FakeEdits:
    """States of tokens after edits, which are carried on without change.

    The change of a token's state at layer L is added to this token's states from L on, and to those
    of the tokens behind it from L + 1 on. Of several edited tokens of a layer, the nearest one at or
    before a token counts for it. A copied token has the other token's states from L on.
    """

    def __init__(self, edits: Sequence[Edit], plain: Callable[[int, int], _States]) -> None:
        """`plain` gives the states of a token without edits: row of the batch, index of the token."""
        self._plain = plain
        # row → layer → edited token → the edit, and the token's index in it
        self._edits: dict[int, dict[int, dict[int, tuple[Edit, int]]]] = defaultdict(dict)
        for edit in edits:
            of_layer = self._edits[edit.row].setdefault(edit.layer, {})
            of_layer |= {token: (edit, index) for index, token in enumerate(edit.tokens)}

    def at(self, row: int, token: int, below: int | None = None) -> _States:
        """States [layer, hidden] of a token after the edits of its row, or of layers `below`."""
        states = self._plain(row, token)
        own = self._edits.get(row, {})
        for layer in sorted(own):
            if below is not None and layer >= below:
                break
            nearest = max((edited for edited in own[layer] if edited <= token), default=None)
            if nearest is not None:
                first = layer if nearest == token else layer + 1
                change = self._change(nearest, *own[layer][nearest])
                states[first:] += change[first - layer :]
        return states

    def _change(self, token: int, edit: Edit, index: int) -> _States:
        """What is added to the states [layer, hidden] of an edited token, from the edit's layer on."""
        own, change = self.at(edit.row, token, edit.layer)[edit.layer :], edit.change
        if isinstance(change, Copy):
            donor: _States = self.at(change.row, change.tokens[index], edit.layer)[edit.layer :]
            return donor - own
        if isinstance(change, Add):
            return np.broadcast_to(change.vector, own.shape)
        removed = (own[0] - change.mean) @ change.right @ change.left
        return np.broadcast_to(-removed, own.shape)
