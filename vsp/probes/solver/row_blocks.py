"""Rows of hidden states for the solver: treated, centred, in float32, one block at a time.

A layer that fits into memory is kept there. A larger one is read again in each pass, through
buffers of a few megabytes. Pages of a memory map are released after they are read, so the process
stays small whatever the size of the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array, Treatment

MEMORY = 1 << 30  # bytes that a layer may take in float32 to be kept
_READ_VALUES = 1 << 20  # values per block that is read
_KEPT_VALUES = 1 << 22  # values per block of rows in memory
_CONVERTED_VALUES = 1 << 17  # values converted at once: half a megabyte fits any core's cache
_CENTRE_ROWS = 4096  # rows that the centre is estimated from


class RowBlocks:
    """Rows of `states` [sample, hidden]: float16, float32 or float64, all finite.

    The rows are treated, and `centre` [hidden] is subtracted. A probe with a free intercept is
    the same after a shift, but a mean far from 0 makes it hard to fit. The values are the same
    bit for bit whether the rows are kept or not.
    """

    def __init__(
        self,
        states: Array,
        treatment: Treatment | None = None,
        index: NDArray[np.intp] | None = None,
        memory: int = MEMORY,
        centre: NDArray[np.float64] | None = None,
    ) -> None:
        """`index`: which samples, ascending (None: all). Without a treatment nothing is changed.

        `memory`: rows that take more bytes in float32 are read again in each pass.
        `centre` [hidden]: about the mean of the treated rows (None: computed).
        """
        self._states, self._index, self._treatment = states, index, treatment
        n_rows = len(states) if index is None else len(index)
        self.shape = n_rows, states.shape[1]
        self._offset: NDArray[np.float64] | None = None  # of (x − offset) · factor
        self._factor: NDArray[np.float64] | None = None
        if treatment is None:
            self.centre = np.zeros(self.shape[1])
        else:
            self._set_affine(treatment, np.zeros(self.shape[1]))
            self.centre = self._estimate_mean() if centre is None else centre
            self._set_affine(treatment, self.centre)
        self.kept: NDArray[np.float32] | None = None  # [row, hidden]
        if 4 * n_rows * self.shape[1] <= memory:
            self.kept = self._read_all()

    def blocks(self, dtype: type[np.floating] = np.float32) -> Iterator[tuple[slice, Array]]:
        """Slices of rows, in order, and those rows; the next block may overwrite a block."""
        n_rows = _n_rows(_READ_VALUES if self.kept is None else _KEPT_VALUES, self.shape[1])
        buffer = np.empty((n_rows if self.kept is None else 0, self.shape[1]), np.float32)
        for start in range(0, self.shape[0], n_rows):
            rows = slice(start, min(start + n_rows, self.shape[0]))
            block = self._read(rows, buffer) if self.kept is None else self.kept[rows]
            yield rows, block.astype(dtype, copy=False)

    def take(self, which: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some of the rows (ascending)."""
        if self.kept is not None:
            return self.kept[which]
        index = which if self._index is None else self._index[which]
        return self.treat_alike(self._states, index)._read_all()

    def treat_alike(self, states: Array, index: NDArray[np.intp] | None = None) -> RowBlocks:
        """Rows of other states, with the same treatment and centre; not kept."""
        return RowBlocks(states, self._treatment, index, memory=-1, centre=self.centre)

    def _set_affine(self, treatment: Treatment, centre: NDArray[np.float64]) -> None:
        """(x − mean) / scale − centre as one subtraction and at most one product."""
        self._offset = treatment.mean + centre * treatment.scale
        self._factor = 1 / treatment.scale if (treatment.scale != 1).any() else None

    def _estimate_mean(self) -> NDArray[np.float64]:
        n_rows = self.shape[0]
        n_sampled = min(n_rows, _CENTRE_ROWS)
        sampled = np.unique(np.linspace(0, max(0, n_rows - 1), n_sampled).astype(int))
        index = sampled if self._index is None else self._index[sampled]
        total, step = np.zeros(self.shape[1]), _n_rows(_CONVERTED_VALUES, self.shape[1])
        for start in range(0, len(index), step):
            raw = self._gather(index[start : start + step])
            treated = np.empty(raw.shape, np.float32)
            self._treat(raw, treated)
            total += treated.sum(0, np.float64)
        return total / max(1, len(index))

    def _read_all(self) -> NDArray[np.float32]:
        states = self._states
        unchanged = self._treatment is None and self._index is None
        if unchanged and states.dtype == np.float32 and states.flags.c_contiguous:
            return states
        treated = np.empty(self.shape, np.float32)
        step = _n_rows(_READ_VALUES, self.shape[1])
        for start in range(0, self.shape[0], step):
            rows = slice(start, min(start + step, self.shape[0]))
            self._read(rows, treated[rows])
        return treated

    def _read(self, rows: slice, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read and treat rows into the start of `buffer` [row, hidden]."""
        step = _n_rows(_CONVERTED_VALUES, self.shape[1])
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            self._treat(self._raw(start, stop), buffer[start - rows.start : stop - rows.start])
        _release_pages(self._states)
        return buffer[: rows.stop - rows.start]

    def _raw(self, start: int, stop: int) -> Array:
        """Untreated rows; a view where they are contiguous."""
        if self._index is None:
            return self._states[start:stop]
        index = self._index[start:stop]
        first, last = int(index[0]), int(index[-1])
        if last - first == len(index) - 1:
            return self._states[first : last + 1]
        return self._gather(index)

    def _gather(self, index: NDArray[np.intp]) -> Array:
        raw: Array = self._states[index]
        _release_pages(self._states)  # the system may map a megabyte around each row
        return raw

    def _treat(self, raw: Array, out: NDArray[np.float32]) -> None:
        work: Array = out
        if raw.dtype == np.float16:
            from_half(raw, out)
        elif raw.dtype == np.float32:
            np.copyto(out, raw)
        else:  # subtract the mean in float64: it may be far larger than the spread
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


def _n_rows(n_values: int, hidden: int) -> int:
    return max(1, n_values // max(1, hidden))


def from_half(halves: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Convert finite float16 numbers to float32 exactly, 3 times as fast as numpy.

    Sign, exponent and fraction are shifted to their places in float32. A product then corrects the
    exponent, whose bias is 15 and not 127; it also normalises subnormal numbers.
    """
    bits = out.view(np.int32)
    np.copyto(bits, halves.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70000001), out=bits)  # clear the copies of the sign
    np.multiply(out, np.float32(2.0**112), out=out)


def _release_pages(states: Array) -> None:
    """Unmap what was read of a read-only memory map; it stays in the system's file cache."""
    owner: Any = states
    while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
        owner = owner.base
    if getattr(owner, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        owner.base.madvise(mmap.MADV_DONTNEED)
