"""The answer options of the rows of a run, and their prior from a run with blank pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError, StoreError
from vsp.evaluation.answers import RowOptions
from vsp.storage.blank_run import blank_runs
from vsp.storage.manifest import Sample
from vsp.storage.run import Run
from vsp.utils.text import format_count

_NO_BLANK = "no run of the same dataset with blank pictures is at hand"


def options_of_run(
    run: Run, samples: Sequence[Sample], rows: NDArray[np.intp]
) -> RowOptions | None:
    """The options of `rows` (in the store); None if the run stores no answers.

    `samples` are those of all rows. The prior is that of the newest run with blank pictures that has
    all rows, matched by id. Raises StoreError if an array is not that of the run.
    """
    options = _stored_options(run, samples)
    if options is None:
        return None
    return _with_prior(run, samples, options.take(rows), rows)


def _stored_options(run: Run, samples: Sequence[Sample]) -> RowOptions | None:
    """The options of all rows of a run."""
    if run.plan.answers is None:
        return None
    common = run.plan.answers.options
    texts = [
        one.options if one.options else tuple(option.text for option in common) for one in samples
    ]
    lengths = [
        tuple(map(len, one.option_tokens)) or tuple(len(option.tokens) for option in common)
        for one in samples
    ]
    for name in ("answers", "lens"):
        if name in run.stores:
            run.stores[name].check()
    total = run.stores["answers"].layer(0)[: len(samples)]
    n_options = total.shape[1]
    lens = None
    if run.plan.answers.lens:
        store = run.stores["lens"]
        lens = np.stack([store.layer(k)[: len(samples)] for k in range(run.plan.n_layers)])
    return RowOptions(
        texts=texts,
        total=total,
        n_tokens=_filled(lengths, n_options),
        n_characters=_filled([[len(one.strip()) for one in of_row] for of_row in texts], n_options),
        lens=lens,
    )


def _filled(values: Sequence[Sequence[int]], n_options: int) -> NDArray[np.int64]:
    """Lists of numbers as an array [row, option]; 0 for options that a row does not have."""
    filled = np.zeros((len(values), n_options), np.int64)
    for row, of_row in zip(filled, values, strict=True):
        row[: len(of_row)] = of_row
    return filled


class _Match(NamedTuple):
    """Rows of another run for the same questions."""

    rows: NDArray[np.intp]  # -1: none
    n_missing: int


def _with_prior(
    run: Run, samples: Sequence[Sample], options: RowOptions, rows: NDArray[np.intp]
) -> RowOptions:
    why_not = _NO_BLANK
    asked = [samples[row] for row in rows.tolist()]
    for blank in blank_runs(run):
        try:
            others = blank.all_samples()
            match = _match(asked, others, _done(blank))
            if match.n_missing == len(asked):
                continue  # another dataset
            if match.n_missing:
                why_not = (
                    f"run {blank.name} with blank pictures lacks "
                    f"{format_count(match.n_missing, 'row')} of {len(asked)}"
                )
                continue
            prior = _stored_options(blank, others)
        except (RunError, StoreError) as error:
            why_not = str(error)
            continue
        assert prior is not None, "the run was chosen for its answers"
        prior = prior.take(match.rows)
        return replace(options, prior=prior.total, prior_lens=prior.lens, prior_source=blank.name)
    return replace(options, prior_source=why_not)


def _done(run: Run) -> frozenset[int]:
    return frozenset(row for one in run.ledgers() for row in one.rows_done.tolist())


def _match(asked: Sequence[Sample], others: Sequence[Sample], done: frozenset[int]) -> _Match:
    """The row of `others` that asks the same of a blank picture of the same size, by id."""
    by_id: Mapping[str, int] = {one.id: row for row, one in enumerate(others)}
    found = np.full(len(asked), -1, np.intp)
    for i, one in enumerate(asked):
        row = by_id.get(one.id, -1)
        if row in done and _question(one) == _question(others[row]):
            found[i] = row
    return _Match(found, int((found < 0).sum()))


def _question(sample: Sample) -> tuple[object, ...]:
    return sample.prompt, sample.options, sample.option_tokens, sample.image_size
