"""Rows of hidden states as a solver wants them: treated, centred, float32, a block at a time.

A layer that fits is kept in memory so. A larger one is read anew in each pass, through buffers of
a few megabytes; what a pass has read of a memory map is handed back, so that the process stays
small whatever the size of the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vsp.probes.treatment import Array, Treatment

MEMORY = 1 << 30  # bytes that a layer may take in float32 to be kept
_BLOCK = 1 << 20  # values that are read at once
_KEPT_BLOCK = 1 << 24  # values of a block where nothing has to be read
_PART = 1 << 17  # values that are converted at once: half a megabyte, in the cache of any core
_FOR_CENTRE = 4096  # rows whose mean is near enough to the mean


class Rows:
    """Rows of `states` [sample, hidden], float16, float32 or float64 and all finite.

    They are (states − mean) / scale, or of unit norm, as the treatment has it, minus `centre`.
    Probes with a free intercept do not notice a shift, but a mean far from 0 is what makes them
    hard to fit. The bytes are the same whether the rows are kept or not.
    """

    def __init__(
        self,
        states: Array,
        treatment: Treatment | None = None,
        index: NDArray[np.intp] | None = None,
        memory: int = MEMORY,
    ) -> None:
        """`index`: which samples, ascending (None: all). `treatment` None: as they are, no centre.

        `memory`: bytes that they may take in float32; larger ones are read in each pass.
        """
        self._states, self._index = states, index
        n_rows = len(states) if index is None else len(index)
        self.shape = n_rows, states.shape[1]
        self._unit_norm = treatment is not None and treatment.name == "unit-norm"
        self._offset = self._factor = None
        self.centre = np.zeros(self.shape[1])  # [hidden]
        if treatment is not None:
            self._treat_as(treatment)
        self.kept: NDArray[np.float32] | None = None
        if 4 * n_rows * self.shape[1] <= memory:
            self.kept = self._whole()

    def blocks(
        self, dtype: type[np.floating] = np.float32, n_rows: int | None = None
    ) -> Iterator[tuple[slice, Array]]:
        """Which rows, and these rows, in order; a block may be overwritten by the next."""
        kept = self.kept
        if n_rows is None:
            n_rows = (_KEPT_BLOCK if kept is not None else _BLOCK) // max(1, self.shape[1])
        n_rows = min(max(1, n_rows), max(1, self.shape[0]))
        room = np.empty((0 if kept is not None else n_rows, self.shape[1]), np.float32)
        for start in range(0, self.shape[0], n_rows):
            rows = slice(start, min(start + n_rows, self.shape[0]))
            block = self._read(rows, room) if kept is None else kept[rows]
            yield rows, block.astype(dtype, copy=False)

    def take(self, which: NDArray[np.intp]) -> NDArray[np.float32]:
        """Some rows, ascending."""
        if self.kept is not None:
            return self.kept[which]
        index = which if self._index is None else self._index[which]
        return Rows._of(self, index)._whole()

    @classmethod
    def _of(cls, other: Rows, index: NDArray[np.intp]) -> Rows:
        """Other samples, treated and shifted alike."""
        rows = cls(other._states, None, index, memory=-1)
        rows._unit_norm, rows._offset, rows._factor = other._unit_norm, other._offset, other._factor
        rows.centre = other.centre
        return rows

    def _treat_as(self, treatment: Treatment) -> None:
        """(x − mean) / scale − centre is (x − offset) · factor: two passes in the cache."""
        self._offset = treatment.mean.astype(np.float64)
        if (treatment.scale != 1).any():
            self._factor = 1 / treatment.scale.astype(np.float64)
        n_rows = self.shape[0]
        some = np.unique(np.linspace(0, max(0, n_rows - 1), min(n_rows, _FOR_CENTRE)).astype(int))
        self.centre = self.take_mean(some)
        self._offset = self._offset + self.centre * treatment.scale

    def take_mean(self, which: NDArray[np.intp]) -> NDArray[np.float64]:
        total = np.zeros(self.shape[1])
        index = which if self._index is None else self._index[which]
        for _, block in Rows._of(self, index).blocks():
            total += block.sum(axis=0, dtype=np.float64)
        return total / max(1, len(which))

    def _whole(self) -> NDArray[np.float32]:
        states = self._states
        plain = self._offset is None and self._index is None
        if plain and states.dtype == np.float32 and states.flags.c_contiguous:
            return states
        whole = np.empty(self.shape, np.float32)
        step = max(1, _BLOCK // max(1, self.shape[1]))
        for start in range(0, self.shape[0], step):
            rows = slice(start, min(start + step, self.shape[0]))
            self._read(rows, whole[rows])
        return whole

    def _read(self, rows: slice, room: NDArray[np.float32]) -> NDArray[np.float32]:
        """These rows in `room` [row, hidden], which may have more."""
        step = max(1, _PART // max(1, self.shape[1]))
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
        return self._states[index]

    def _treat(self, raw: Array, out: NDArray[np.float32]) -> None:
        # What is float64 may need all of its digits until the mean is gone.
        work: Array = raw.astype(np.float64) if raw.dtype == np.float64 else out
        if raw.dtype == np.float16:
            from_half(raw, out)
        elif work is out:
            np.copyto(out, raw)
        if self._unit_norm:
            norm = np.sqrt(np.einsum("ij,ij->i", work, work))[:, None]
            work /= np.where(norm > 0, norm, 1)
        if self._offset is not None:
            work -= self._offset.astype(work.dtype)
        if self._factor is not None:
            work *= self._factor.astype(work.dtype)
        if work is not out:
            np.copyto(out, work, casting="same_kind")


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
    owner: object = states
    while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
        owner = owner.base
    if getattr(owner, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        owner.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]
