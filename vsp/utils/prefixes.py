"""Beginnings that sequences of tokens have in common."""

from __future__ import annotations

from collections.abc import Iterable


def proper_prefixes(sequences: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The distinct beginnings of the sequences, without empty and whole ones, shorter ones first.

    Of answer options, each is a token to compute; the last token of an option is only predicted.
    """
    every = {sequence[:n] for sequence in sequences for n in range(1, len(sequence))}
    return sorted(every, key=lambda prefix: (len(prefix), prefix))
