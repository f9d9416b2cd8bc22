"""Cuts the work of an effects run: rows into batches, and the settings of a row into pieces.

Both depend on the plan and the manifest alone, so a resumed shard repeats them exactly. A piece is
computed as one group: its settings share the picture and the prompt up to the first changed token.
Each piece also computes the row without a change, beside which its settings are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vsp.choices import LAST
from vsp.extraction.batches import n_row_tokens
from vsp.extraction.positions import NAMES
from vsp.storage.effects import Effects
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan

# Most tokens of a piece, over its row: the cost of attention grows with pairs of tokens.
_MAX_GROWTH = 3

AnyRow = TypeVar("AnyRow")
Slot = tuple[int, int]  # index of the layer, index of the setting


@dataclass(frozen=True, slots=True)
class Piece:
    """Settings of a row that are computed beside the row without a change."""

    slots: tuple[Slot, ...]
    n_tokens: int  # that are computed, with those of the unchanged row and of the paired row
    n_groups: int  # likewise
    longest: int  # tokens of the longest group


def tokens_name(effects: Effects, setting: int) -> str:
    """The name of the tokens that a setting changes: a position, or of a patch also box and all."""
    return effects.settings[setting].name if effects.kind == "patch" else effects.position


def row_pieces(plan: Plan, effects: Effects, sample: Sample, donor: Sample | None) -> list[Piece]:
    """The pieces of a row; settings with the same first token are neighbours in the pieces."""
    full = n_row_tokens(plan.answers, sample)
    n_donor = 0 if donor is None else donor.n_tokens
    pieces = []
    for first, slots in _by_first_token(plan, effects, sample).items():
        own = full - first  # tokens of each setting behind those that all share
        most = plan.batch_tokens - n_donor
        if first:
            most = min(most, _MAX_GROWTH * full)
        # One of them is the unchanged row.
        n_slots = max((most - first) // own - 1, 1)
        for start in range(0, len(slots), n_slots):
            some = slots[start : start + n_slots]
            n_rows = 1 + len(some)
            # Without common tokens, each setting is a group.
            n_groups, longest = (1, first + n_rows * own) if first else (n_rows, own)
            paired = (1, n_donor) if n_donor else (0, 0)
            pieces.append(
                Piece(
                    tuple(some),
                    n_groups * longest + paired[1],
                    n_groups + paired[0],
                    max(longest, paired[1]),
                )
            )
    return pieces


def packed(
    pieces: Sequence[tuple[AnyRow, Piece]], batch_tokens: int
) -> list[list[tuple[AnyRow, Piece]]]:
    """Pieces of rows in forward passes of at most that many tokens, in their order."""
    passes: list[list[tuple[AnyRow, Piece]]] = []
    n_groups = longest = 0
    for row, piece in pieces:
        n_groups, longest = n_groups + piece.n_groups, max(longest, piece.longest)
        if not passes or n_groups * longest > batch_tokens:
            passes.append([])
            n_groups, longest = piece.n_groups, piece.longest
        passes[-1].append((row, piece))
    return passes


def row_tokens(plan: Plan, effects: Effects, sample: Sample, donor: Sample | None) -> int:
    """Tokens that all settings of a row take through the model."""
    return sum(piece.n_tokens for piece in row_pieces(plan, effects, sample, donor))


def effects_batches(
    plan: Plan, effects: Effects, samples: Mapping[int, Sample], donors: Mapping[int, Sample]
) -> Iterator[tuple[int, ...]]:
    """The rows of each batch of a shard: neighbours that fit one forward pass, or one row."""
    batch: list[int] = []
    total = 0
    for row, sample in samples.items():
        n_tokens = row_tokens(plan, effects, sample, donors.get(row))
        if batch and total + n_tokens > plan.batch_tokens:
            yield tuple(batch)
            batch, total = [], 0
        batch.append(row)
        total += n_tokens
    if batch:
        yield tuple(batch)


def _by_first_token(plan: Plan, effects: Effects, sample: Sample) -> dict[int, list[Slot]]:
    """The slots by the number of tokens ahead of the first changed one; 0: none is shared."""
    found: dict[int, list[Slot]] = {}
    for setting in range(1, len(effects.settings)):
        first = _n_ahead(sample, tokens_name(effects, setting)) if plan.share else 0
        found.setdefault(first, []).extend((i, setting) for i in range(len(effects.layers)))
    if effects.kind != "patch":  # the settings of a layer lie together
        for slots in found.values():
            slots.sort()
    return found


def _n_ahead(sample: Sample, tokens: str) -> int:
    """The tokens ahead of the first changed one that settings can share; 0 if they are of the image."""
    if tokens == LAST:
        return sample.n_tokens - 1
    return dict(sample.tokens_of).get(tokens, 0) if tokens in NAMES else 0
