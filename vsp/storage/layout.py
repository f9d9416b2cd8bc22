"""Positions of rows and layers in the file of an array, and the rows where shards may begin.

No two shards share a memory page, in any of the arrays of a run.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, gcd

import numpy as np

from vsp.config import StoreDtype
from vsp.errors import StoreError

# numpy refuses to read a header of more than 10,000 bytes, so the data cannot begin at 64 KiB.
HEADER_BYTES = 8192
# Largest first: some hosts have pages of 64 KiB, and that boundary also suits smaller pages.
BOUNDARIES = (65536, 32768, 16384, 8192, 4096)
_MAX_UNEVEN = 1.25  # shards count as even if longest / mean is at most this


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions of rows and layers in the file, and the rows where shards may begin."""

    n_layers: int
    n_samples: int
    hidden_size: int
    dtype: StoreDtype
    boundary: int  # bytes; a page of this size, or of a divisor of it, belongs to one shard only
    of_options: bool = False  # the last axis is of options; NaN where a row has fewer of them

    @property
    def row_bytes(self) -> int:
        return self.hidden_size * np.dtype(self.dtype).itemsize

    @property
    def period(self) -> int:
        """Rows between two positions where a shard can begin."""
        return self.boundary // gcd(self.boundary, self.row_bytes)

    @property
    def n_rows(self) -> int:
        """Length of the sample axis: the samples, then padding that belongs to no shard.

        A layer's last page must end before the page in which the next layer begins. A layer
        begins HEADER_BYTES % boundary bytes into its page.
        """
        overhang = ceil((HEADER_BYTES % self.boundary) / self.row_bytes)
        return ceil((self.n_samples + overhang) / self.period) * self.period

    @property
    def shape(self) -> tuple[int, ...]:
        """`[layer, sample, hidden]`, including padding; `[sample, value]` of options."""
        of_layer = self.n_rows, self.hidden_size
        return of_layer if self.of_options else (self.n_layers, *of_layer)

    @property
    def n_bytes(self) -> int:
        return HEADER_BYTES + self.n_layers * self.n_rows * self.row_bytes

    def offset(self, layer: int, row: int) -> int:
        """Byte in the file where a row of a layer begins."""
        return HEADER_BYTES + (layer * self.n_rows + row) * self.row_bytes

    def first_cut(self) -> int | None:
        """The first row that begins on a boundary; None if there is none."""
        step = gcd(self.boundary, self.row_bytes)
        if HEADER_BYTES % step:
            return None
        inverse = pow(self.row_bytes // step, -1, self.period)
        return -(HEADER_BYTES // step) * inverse % self.period

    def cuts(self, beside: Sequence[int] = ()) -> tuple[int, int] | None:
        """The first row that begins on a boundary, and the number of rows between two such rows.

        They do so too in arrays with rows of the sizes `beside`. None if there is no such row.
        """
        layouts = [self, *(replace(self, hidden_size=size) for size in beside)]
        # Periods are powers of two, so the longest is a multiple of the others.
        firsts = [(layout.period, layout.first_cut()) for layout in layouts]
        cuts = sorted((period, first) for period, first in firsts if first is not None)
        if len(cuts) < len(layouts) or any(
            (cuts[-1][1] - first) % period for period, first in cuts
        ):
            return None
        period, first = cuts[-1]
        return first, period

    def shard_starts(self, n_shards: int, beside: Sequence[int] = ()) -> list[int]:
        """First rows of at most `n_shards` nearly equal shards, each on a boundary.

        `beside` has the sizes of the rows of other arrays with the same shards.
        """
        cuts = self.cuts(beside)
        if cuts is None:
            return [0]
        first, period = cuts
        starts = {0}
        for k in range(1, n_shards):
            target = ceil(k * self.n_samples / n_shards)
            cut = first + round((target - first) / period) * period
            if 0 < cut < self.n_samples:
                starts.add(cut)
        return sorted(starts)

    def has_even_shards(self, n_shards: int, beside: Sequence[int] = ()) -> bool:
        """Whether there can be that many nearly equal shards; `beside` as in `shard_starts`."""
        sizes = self._shard_sizes(n_shards, beside)
        return len(sizes) == n_shards and max(sizes) <= _MAX_UNEVEN * self.n_samples / n_shards

    @classmethod
    def choose(
        cls,
        n_layers: int,
        n_samples: int,
        hidden_size: int,
        dtype: StoreDtype,
        n_shards: int,
        with_options: bool = False,
        beside: Sequence[int] = (),
    ) -> Layout:
        """The layout with the largest boundary that allows `n_shards` nearly equal shards.

        With options, `of_options_beside` works for its shards; `beside` as in `shard_starts`. If no
        boundary allows that, the layout with the most shards; among several, the one with the
        shortest longest shard. Raises StoreError if this host's pages are too large for any.
        """
        layouts = [
            cls(n_layers, n_samples, hidden_size, dtype, boundary)
            for boundary in BOUNDARIES
            if boundary % mmap.PAGESIZE == 0
        ]
        usable = [layout for layout in layouts if layout.cuts(beside) is not None]
        if with_options and layouts[0].row_bytes % 4:
            # Elsewhere, no row of numbers of 4 bytes begins on a boundary where one of states does.
            usable = [layout for layout in usable if HEADER_BYTES % layout.boundary == 0]
        if not usable:
            if n_shards == 1:
                return layouts[-1]
            widths = " beside ".join(map(str, (hidden_size, *beside)))
            raise StoreError(
                f"hidden size {widths} in {dtype} cannot be cut at pages of "
                f"{mmap.PAGESIZE} bytes; use --shards 1"
            )
        for layout in usable:
            if layout.has_even_shards(n_shards, beside):
                return layout

        def loss(layout: Layout) -> tuple[int, int]:
            sizes = layout._shard_sizes(n_shards, beside)
            return -len(sizes), max(sizes)

        return min(usable, key=loss)

    def of_options_beside(self, n_values: int, starts: Sequence[int]) -> Layout:
        """The layout of `n_values` log-likelihoods a row, for the same shards, which begin at `starts`.

        Rows are as long as they must be for shards to begin on boundaries there too. Raises
        StoreError if no length allows that, which no plan of vsp has.
        """
        step = gcd(*(start - starts[1] for start in starts[2:]))
        first = starts[1] if len(starts) > 1 else 0
        for width in range(n_values, n_values + self.boundary):
            row = width * np.dtype("float32").itemsize
            in_step = row * step % self.boundary == 0
            if len(starts) == 1 or (in_step and (HEADER_BYTES + row * first) % self.boundary == 0):
                return replace(
                    self, n_layers=1, hidden_size=width, dtype="float32", of_options=True
                )
        raise StoreError("shards do not begin on pages; plan the run again")

    def _shard_sizes(self, n_shards: int, beside: Sequence[int]) -> list[int]:
        bounds = [*self.shard_starts(n_shards, beside), self.n_samples]
        return [stop - start for start, stop in pairwise(bounds)]
