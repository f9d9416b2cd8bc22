"""Checks of edits against the batch whose states they change."""

from __future__ import annotations

from collections.abc import Sequence

from vsp.errors import ModelError
from vsp.models.contract import PromptGroup, TokenizedPrompt
from vsp.models.edits import Add, Copy, Edit, Project


def check_edits(
    edits: Sequence[Edit], groups: Sequence[PromptGroup], n_layers: int, hidden_size: int
) -> None:
    """Raise ModelError for an edit that the batch cannot have.

    The row, the layer or a token does not exist, a token belongs to the prefix that rows of a group
    share, an array has another shape, or two edits change the same state.
    """
    rows = [(group, row) for group in groups for row in group.rows]
    seen: set[tuple[int, int, int]] = set()
    checked: set[int] = set()  # arrays are the same for many edits
    for edit in edits:
        group, row = _row(rows, edit.row)
        if not 0 <= edit.layer < n_layers:
            raise ModelError(f"edit at layer {edit.layer}: the model has layers 0-{n_layers - 1}")
        _check_tokens(edit.tokens, row, edit.row)
        if len(group.rows) > 1 and min(edit.tokens) < group.n_shared:
            raise ModelError(
                f"edit of token {min(edit.tokens)} of row {edit.row}: the rows of its group share the "
                f"first {group.n_shared} tokens; put it in a group that shares fewer"
            )
        states = {(edit.row, edit.layer, token) for token in edit.tokens}
        if len(states) < len(edit.tokens) or not seen.isdisjoint(states):
            raise ModelError(
                f"edit at layer {edit.layer} of row {edit.row}: a token is changed twice; join the "
                "changes in one"
            )
        seen |= states
        if isinstance(edit.change, Copy):
            _check_copy(edit, edit.change, rows)
        elif id(edit.change) not in checked:
            _check_shapes(edit.change, hidden_size)
            checked.add(id(edit.change))


def _row(
    rows: Sequence[tuple[PromptGroup, TokenizedPrompt]], number: int
) -> tuple[PromptGroup, TokenizedPrompt]:
    if not 0 <= number < len(rows):
        raise ModelError(f"edit of row {number}: the batch has rows 0-{len(rows) - 1}")
    return rows[number]


def _check_tokens(tokens: Sequence[int], row: TokenizedPrompt, number: int) -> None:
    n_tokens = len(row.tokens)
    if not tokens:
        raise ModelError(f"edit of row {number}: it names no token; name one at least")
    for token in tokens:
        if not 0 <= token < n_tokens:
            raise ModelError(f"edit of row {number}: token {token} is not one of 0-{n_tokens - 1}")


def _check_copy(
    edit: Edit, copy: Copy, rows: Sequence[tuple[PromptGroup, TokenizedPrompt]]
) -> None:
    _, donor = _row(rows, copy.row)
    _check_tokens(copy.tokens, donor, copy.row)
    if len(copy.tokens) != len(edit.tokens):
        raise ModelError(
            f"edit of row {edit.row}: {len(edit.tokens)} tokens get the states of {len(copy.tokens)} "
            f"tokens of row {copy.row}; name as many"
        )


def _check_shapes(change: Add | Project, hidden_size: int) -> None:
    found: list[tuple[int, ...]]
    wanted: list[tuple[int, ...]]
    if isinstance(change, Add):
        found, wanted = [change.vector.shape], [(hidden_size,)]
    else:
        rank = change.left.shape[:1]
        found = [change.mean.shape, change.right.shape, change.left.shape]
        wanted = [(hidden_size,), (hidden_size, *rank), (*rank, hidden_size)]
    if found != wanted:
        name = type(change).__name__
        raise ModelError(f"edit {name}: its arrays have shapes {found}, not {wanted}")
