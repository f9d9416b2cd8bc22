"""Test rows whose states equal those of training rows about another image.

Such rows are copies that the plan did not join: a probe that has learned the training row by heart
also gets the test row right. Three cases are harmless and not counted. Rows about one image file have
equal states if their prompts are equal; their groups were chosen by the dataset. Equal states whose
training rows have several labels cannot be learned by heart. In a variant with grey pictures, all rows
with one prompt have equal states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.design import Design
from vsp.storage.array import Store
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan

_GREY_VARIANTS = {"blank", "names"}


def count_equal_states(
    plan: Plan,
    store: Store,
    samples: Sequence[Sample],
    row: NDArray[np.intp],
    crc32: NDArray[np.uint32],
    design: Design,
) -> int:
    """The number of test rows whose states equal those of a training row about another image.

    `row` has the row in the run of each row in `design`, `crc32` the checksum of its states. Test rows
    count if all training rows with their states have their label.
    """
    if _GREY_VARIANTS & set(plan.variants):
        return 0
    of_design = [samples[i] for i in row.tolist()]
    found: set[int] = set()
    for rows in _sets_of_equal_states(store, of_design, row, crc32):
        for split in design.outer:
            train = [of_design[i] for i in rows[design.train_sets[split.train_set, rows]].tolist()]
            if len({sample.label for sample in train}) != 1:
                continue
            images = {sample.image for sample in train}
            found.update(
                i
                for i in np.intersect1d(rows, split.test).tolist()
                if of_design[i].label == train[0].label and images - {of_design[i].image}
            )
    return len(found)


def _sets_of_equal_states(
    store: Store, samples: Sequence[Sample], row: NDArray[np.intp], crc32: NDArray[np.uint32]
) -> Iterator[NDArray[np.intp]]:
    """The rows of each set with equal states that has several images and groups."""
    order = np.argsort(crc32, kind="stable")
    first, n = np.unique(crc32[order], return_index=True, return_counts=True)[1:]
    states = store.layer(store.layout.n_layers - 1)
    for start, size in zip(first[n > 1].tolist(), n[n > 1].tolist(), strict=True):
        rows = order[start : start + size]
        if _has_copies(samples, rows):
            # Unequal states may have equal checksums: 100,000 rows have one such pair on average.
            equal: dict[bytes, list[int]] = defaultdict(list)
            for i in rows.tolist():
                equal[states[row[i]].tobytes()].append(i)
            yield from (np.asarray(some) for some in equal.values() if _has_copies(samples, some))


def _has_copies(samples: Sequence[Sample], rows: Iterable[int]) -> bool:
    """Whether rows have several images and several groups."""
    pairs = [(samples[i].image, samples[i].group) for i in rows]
    return len({image for image, _ in pairs}) > 1 and len({group for _, group in pairs}) > 1
