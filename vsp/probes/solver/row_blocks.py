"""Rows of hidden states as a solver wants them: treated, centred, float32, a block at a time.

A layer that fits is kept in memory so. A larger one is read anew in each pass, through buffers of
a few megabytes; what a pass has read of a memory map is handed back, so that the process stays
small whatever the size of the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array, Treatment

MEMORY = 1 << 30  # bytes that a layer may take in float32 to be kept
_BLOCK = 1 << 20  # values that are read at once
_KEPT_BLOCK = 1 << 22  # values of a block where nothing has to be read
_PART = 1 << 17  # values that are converted at once: half a megabyte, in the cache of any core
_FOR_CENTRE = 4096  # rows whose mean is near enough to the mean


class Rows:
    """Rows of `states` [sample, hidden], float16, float32 or float64 and all finite.

    They are treated, and `centre` is taken from them. Probes with a free intercept do not notice
    a shift, but a mean far from 0 makes them hard to fit. The numbers are the same to the bit
    whether the rows are kept or not.
    """

    def __init__(
        self,
        states: Array,
        treatment: Treatment | None = None,
        index: NDArray[np.intp] | None = None,
        memory: int = MEMORY,
        centre: NDArray[np.float64] | None = None,
    ) -> None:
        """`index`: which samples, ascending (None: all). No treatment: as they are, no centre.

        `memory`: bytes that they may take in float32; if they take more, each pass reads them.
        `centre` [hidden]: about the mean of the treated rows (None: it is seen to).
        """
        self._states, self._index, self._treatment = states, index, treatment
        n_rows = len(states) if index is None else len(index)
        self.shape = n_rows, states.shape[1]
        self._offset: NDArray[np.float64] | None = None  # of (x − offset) · factor
        self._factor: NDArray[np.float64] | None = None
        if treatment is None:
            self.centre = np.zeros(self.shape[1])
        else:
            self._scale(treatment, np.zeros(self.shape[1]))
            self.centre = self._about_mean() if centre is None else centre
            self._scale(treatment, self.centre)
        self.kept: NDArray[np.float32] | None = None
        if 4 * n_rows * self.shape[1] <= memory:
            self.kept = self._whole()

    def blocks(self, dtype: type[np.floating] = np.float32) -> Iterator[tuple[slice, Array]]:
        """Which rows, and these rows, in order; a block may be overwritten by the next."""
        n_rows = _rows_of(_BLOCK if self.kept is None else _KEPT_BLOCK, self.shape[1])
        room = np.empty((n_rows if self.kept is None else 0, self.shape[1]), np.float32)
        for start in range(0, self.shape[0], n_rows):
            rows = slice(start, min(start + n_rows, self.shape[0]))
            block = self._read(rows, room) if self.kept is None else self.kept[rows]
            yield rows, block.astype(dtype, copy=False)

    def take(self, which: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some of the rows, ascending."""
        if self.kept is not None:
            return self.kept[which]
        index = which if self._index is None else self._index[which]
        return self.alike(self._states, index)._whole()

    def alike(self, states: Array, index: NDArray[np.intp] | None = None) -> Rows:
        """Rows of other states, treated and shifted as these; not kept."""
        return Rows(states, self._treatment, index, memory=-1, centre=self.centre)

    def _scale(self, treatment: Treatment, centre: NDArray[np.float64]) -> None:
        """(x − mean) / scale − centre, with as little as can be done to each number."""
        self._offset = treatment.mean + centre * treatment.scale
        self._factor = 1 / treatment.scale if (treatment.scale != 1).any() else None

    def _about_mean(self) -> NDArray[np.float64]:
        n_rows = self.shape[0]
        some = np.unique(np.linspace(0, max(0, n_rows - 1), min(n_rows, _FOR_CENTRE)).astype(int))
        index = some if self._index is None else self._index[some]
        total, step = np.zeros(self.shape[1]), _rows_of(_PART, self.shape[1])
        for start in range(0, len(index), step):
            total += self._treated(self._gathered(index[start : start + step])).sum(0, np.float64)
        return total / max(1, len(index))

    def _whole(self) -> NDArray[np.float32]:
        states = self._states
        plain = self._treatment is None and self._index is None
        if plain and states.dtype == np.float32 and states.flags.c_contiguous:
            return states
        whole = np.empty(self.shape, np.float32)
        step = _rows_of(_BLOCK, self.shape[1])
        for start in range(0, self.shape[0], step):
            rows = slice(start, min(start + step, self.shape[0]))
            self._read(rows, whole[rows])
        return whole

    def _read(self, rows: slice, room: NDArray[np.float32]) -> NDArray[np.float32]:
        """These rows in `room` [row, hidden], which may have more."""
        step = _rows_of(_PART, self.shape[1])
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            self._treat(self._raw(start, stop), room[start - rows.start : stop - rows.start])
        _hand_back(self._states)
        return room[: rows.stop - rows.start]

    def _raw(self, start: int, stop: int) -> Array:
        if self._index is None:
            return self._states[start:stop]
        index = self._index[start:stop]
        first, last = int(index[0]), int(index[-1])
        if last - first == len(index) - 1:
            return self._states[first : last + 1]
        return self._gathered(index)

    def _gathered(self, index: NDArray[np.intp]) -> Array:
        # Around each row that is touched the system may map a megabyte.
        raw: Array = self._states[index]
        _hand_back(self._states)
        return raw

    def _treated(self, raw: Array) -> NDArray[np.float32]:
        out = np.empty(raw.shape, np.float32)
        self._treat(raw, out)
        return out

    def _treat(self, raw: Array, out: NDArray[np.float32]) -> None:
        work: Array = out
        if raw.dtype == np.float16:
            from_half(raw, out)
        elif raw.dtype == np.float32:
            np.copyto(out, raw)
        else:  # all of its digits may be needed until the mean is gone
            work = raw.astype(np.float64)
        if self._treatment is not None and self._treatment.name == "unit-norm":
            norm = np.sqrt(np.einsum("ij,ij->i", work, work))[:, None]
            work /= np.where(norm > 0, norm, 1)
        if self._offset is not None:
            work -= self._offset.astype(work.dtype)
        if self._factor is not None:
            work *= self._factor.astype(work.dtype)
        if work is not out:
            np.copyto(out, work, casting="same_kind")


def _rows_of(n_values: int, hidden: int) -> int:
    return max(1, n_values // max(1, hidden))


def from_half(halves: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Write finite float16 numbers as float32, to the bit; 3 times as fast as numpy's own.

    Sign, exponent and fraction are moved to where float32 has them; the exponent, which counts
    from −15 and not from −127, is mended by a product, which sees to subnormal numbers too.
    """
    bits = out.view(np.int32)
    np.copyto(bits, halves.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70000001), out=bits)  # without copies of the sign
    np.multiply(out, np.float32(2.0**112), out=out)


def _hand_back(states: Array) -> None:
    """Let go of the pages of a read-only memory map; they stay in the system's cache of files."""
    owner: Any = states
    while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
        owner = owner.base
    if getattr(owner, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        owner.base.madvise(mmap.MADV_DONTNEED)
