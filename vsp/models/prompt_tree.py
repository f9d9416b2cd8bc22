"""Lays out the prompts about one image as one sequence, so that their common prefix is shared.

A group of prompts is a tree of pieces: the common prefix, behind it the rest of each prompt, and
behind a prompt the tokens of its answer options. The longest path through the tree is the trunk; it
comes first in the sequence. The other pieces are branches, appended to the trunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vsp.models.contract import PromptGroup, TokenizedPrompt
from vsp.utils.prefixes import proper_prefixes


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive tokens of the tree of a group."""

    tokens: tuple[int, ...]
    parent: int  # index of the piece before it; -1: none
    depth: int  # tokens before it on its path

    @property
    def stop(self) -> int:
        return self.depth + len(self.tokens)


@dataclass(frozen=True, slots=True)
class _Tree:
    """The pieces of a group, each after its parent. Piece 0 is the common prefix, maybe empty."""

    pieces: tuple[_Piece, ...]
    rows: tuple[int, ...]  # the piece of each prompt
    options: tuple[dict[tuple[int, ...], int], ...]  # of each prompt: beginning of options → piece

    @classmethod
    def of(cls, group: PromptGroup) -> _Tree:
        pieces = [_Piece(group.rows[0].tokens[: group.n_shared], -1, 0)]
        rows, options = [], []
        for row in group.rows:
            rows.append(len(pieces))
            pieces.append(_Piece(row.tokens[group.n_shared :], 0, group.n_shared))
            at: dict[tuple[int, ...], int] = {(): rows[-1]}
            for prefix in proper_prefixes(row.options):
                parent = at[prefix[:-1]]
                at[prefix] = len(pieces)
                pieces.append(_Piece(prefix[-1:], parent, pieces[parent].stop))
            options.append(at)
        return cls(tuple(pieces), tuple(rows), tuple(options))

    def path(self, piece: int) -> list[int]:
        """The pieces from the root to `piece`."""
        path: list[int] = []
        while piece >= 0:
            path.append(piece)
            piece = self.pieces[piece].parent
        return path[::-1]

    def leaves(self) -> list[int]:
        parents = {piece.parent for piece in self.pieces}
        return [i for i in range(len(self.pieces)) if i not in parents]

    def visible(self, size: int, share: bool) -> NDArray[np.bool_]:
        """[piece, piece] whether the first may attend to the second, padded to `size`.

        The second is on the path to the first. In a sequence of one path, a prompt is whole, and its
        prefix may attend to the rest.
        """
        visible = np.eye(size, dtype=bool)
        if not share:
            visible[0, list(self.rows)] = True
        for i, piece in enumerate(self.pieces):
            if piece.parent >= 0:
                visible[i] |= visible[piece.parent]
        return visible


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A trunk and its branches."""

    number: int  # of the group in the batch
    group: PromptGroup
    tree: _Tree
    trunk: list[int]  # pieces of the longest path
    branches: list[int]

    @property
    def order(self) -> list[int]:
        return self.trunk + self.branches

    def trunk_tokens(self) -> list[int]:
        return [token for i in self.trunk for token in self.tree.pieces[i].tokens]

    def prompt_length(self) -> int:
        """Tokens of the trunk before those of an option."""
        return next(self.tree.pieces[i].stop for i in self.trunk if i in self.tree.rows)

    def starts(self) -> dict[int, int]:
        """Piece → position of its first token."""
        starts, at = {}, 0
        for i in self.order:
            starts[i] = at
            at += len(self.tree.pieces[i].tokens)
        return starts


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row's tokens are: those of the prefix at the start of a sequence, then its own."""

    sequence: int
    n_shared: int
    start: int  # position of the first own token
    index: int  # of the row in its group
    number: int  # of the row in the batch
    row: TokenizedPrompt

    def token(self, index: int) -> tuple[int, int]:
        """Sequence and position of a token of the prompt."""
        own = index - self.n_shared
        return self.sequence, index if own < 0 else self.start + own

    @property
    def last(self) -> tuple[int, int]:
        return self.token(len(self.row.tokens) - 1)


@dataclass(frozen=True)
class Bundle:
    """A batch of groups as sequences, padded on the right.

    The mask is causal, so no token attends to the padding after it.
    """

    groups: tuple[PromptGroup, ...]  # of each sequence; a group may need several
    trunks: NDArray[np.int64]  # tokens [sequence, token] of the trunks, without branches
    trunk_lengths: NDArray[np.int64]  # [sequence]
    prompt_lengths: NDArray[np.int64]  # [sequence] tokens of the trunk before those of an option
    tokens: NDArray[np.int64]  # [sequence, token] with the branches
    sources: NDArray[np.int64]  # [sequence, token] index of the trunk token with the same position
    pieces: NDArray[
        np.int64
    ]  # [sequence, token] piece of the tree; padding has a number of its own
    visible: NDArray[np.bool_]  # [sequence, piece, piece] whether the first attends to the second
    in_branch: NDArray[np.bool_]  # [sequence, token]
    places: tuple[RowPlace, ...]  # every place of each row, sequence by sequence
    # of each row in the order of the groups: its first place
    rows: tuple[RowPlace, ...]
    # of each row: beginning of options → sequence and position of its last token
    options: tuple[dict[tuple[int, ...], tuple[int, int]], ...]

    @cached_property
    def has_branches(self) -> bool:
        return bool(self.in_branch.any())

    @cached_property
    def has_options(self) -> bool:
        """Whether a sequence holds tokens of an option."""
        return any(len(places) > 1 for places in self.options)


def bundle_groups(groups: Sequence[PromptGroup], pad: int, share: bool = True) -> Bundle:
    """Lay out groups as sequences; `pad` is the padding token. Without `share`, one path each."""
    sequences = [one for i, group in enumerate(groups) for one in _sequences(i, group, share)]
    starts = [sequence.starts() for sequence in sequences]
    places, rows, options = _places(sequences, starts)
    trunks = [sequence.trunk_tokens() for sequence in sequences]
    tokens, sources, numbers, in_branch = [], [], [], []
    n_pieces = max(len(sequence.tree.pieces) for sequence in sequences)
    for sequence, trunk in zip(sequences, trunks, strict=True):
        laid = [(i, sequence.tree.pieces[i]) for i in sequence.order]
        tokens.append([token for _, piece in laid for token in piece.tokens])
        sources.append([at for _, piece in laid for at in range(piece.depth, piece.stop)])
        numbers.append([i for i, piece in laid for _ in piece.tokens])
        in_branch.append([i >= len(trunk) for i in range(len(tokens[-1]))])
    return Bundle(
        groups=tuple(sequence.group for sequence in sequences),
        trunks=_pad_rows(trunks, pad),
        trunk_lengths=np.array([len(trunk) for trunk in trunks]),
        prompt_lengths=np.array([sequence.prompt_length() for sequence in sequences]),
        tokens=_pad_rows(tokens, pad),
        # Padding gets the position of a text token, because some models count image tokens.
        sources=_pad_rows(sources, [len(trunk) - 1 for trunk in trunks]),
        pieces=_pad_rows(numbers, n_pieces),
        visible=np.stack([sequence.tree.visible(n_pieces + 1, share) for sequence in sequences]),
        in_branch=_pad_rows(in_branch, False).astype(bool),
        places=places,
        rows=rows,
        options=options,
    )


def _sequences(number: int, group: PromptGroup, share: bool) -> Iterator[_Sequence]:
    """One sequence of the whole tree; without `share`, one for each of its leaves."""
    tree = _Tree.of(group)
    if not share:
        for leaf in tree.leaves():
            yield _Sequence(number, group, tree, tree.path(leaf), [])
        return
    last = max(range(len(tree.pieces)), key=lambda i: tree.pieces[i].stop)
    trunk = tree.path(last)
    yield _Sequence(
        number, group, tree, trunk, [i for i in range(len(tree.pieces)) if i not in trunk]
    )


def _places(
    sequences: Sequence[_Sequence], starts: Sequence[dict[int, int]]
) -> tuple[
    tuple[RowPlace, ...],
    tuple[RowPlace, ...],
    tuple[dict[tuple[int, ...], tuple[int, int]], ...],
]:
    """Every place of each row, the first place of each, and the places of its options."""
    places: list[RowPlace] = []
    numbers: dict[tuple[int, int], int] = {}  # (group, row) → number of the row in the batch
    first: dict[tuple[int, int], RowPlace] = {}  # (group, row) → its first place
    options: dict[tuple[int, int], dict[tuple[int, ...], tuple[int, int]]] = {}
    for number, (sequence, at) in enumerate(zip(sequences, starts, strict=True)):
        tree, n_shared = sequence.tree, sequence.group.n_shared
        for i, row in enumerate(sequence.group.rows):
            if tree.rows[i] not in at:
                continue
            key = sequence.number, i
            of_batch = numbers.setdefault(key, len(numbers))
            places.append(RowPlace(number, n_shared, at[tree.rows[i]], i, of_batch, row))
            first.setdefault(key, places[-1])
            known = options.setdefault(key, {(): places[-1].last})
            for prefix, piece in tree.options[i].items():
                if prefix and piece in at:
                    known.setdefault(prefix, (number, at[piece]))
    return tuple(places), tuple(first.values()), tuple(options.values())


def _pad_rows(rows: Sequence[Sequence[int]], value: int | Sequence[int]) -> NDArray[np.int64]:
    """Rows padded to one length [row, longest] with `value`: one for all rows, or one per row."""
    padded = np.empty((len(rows), max(map(len, rows))), dtype=np.int64)
    padded[:] = np.reshape(value, (-1, 1))
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
