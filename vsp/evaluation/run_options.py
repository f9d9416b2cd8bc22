"""The answer options of the rows of a run, and their prior from a run with blank pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vsp.choices import LAST
from vsp.errors import RunError, StoreError
from vsp.evaluation.answers import RowOptions
from vsp.storage.blank_run import blank_runs
from vsp.storage.manifest import Sample
from vsp.storage.run import Run
from vsp.utils.text import format_count

_NO_BLANK = "no run of the same dataset with blank pictures is at hand"


def options_of_run(
    run: Run, samples: Sequence[Sample], rows: NDArray[np.intp], position: str = LAST
) -> RowOptions | None:
    """The options of `rows` (in the store); None if the run stores no answers.

    The lens reads the last token, so it is left out for states at another `position`. `samples` are
    those of all rows. The prior is that of the newest run with blank pictures that has all rows,
    matched by id. Raises StoreError if an array is not that of the run.
    """
    options = stored_options(run, samples)
    if options is None:
        return None
    if position != LAST:
        options = replace(options, lens=None)
    return _with_prior(run, samples, options.take(rows), rows)


def stored_options(run: Run, samples: Sequence[Sample]) -> RowOptions | None:
    """The options of all rows of a run, whose samples are `samples`; None if it stores no answers.

    Raises StoreError if an array is not that of the run.
    """
    if run.plan.answers is None:
        return None
    common = run.plan.answers.options
    texts = [run.plan.answers.texts_of(one) for one in samples]
    lengths = [
        tuple(map(len, one.option_tokens)) or tuple(len(option.tokens) for option in common)
        for one in samples
    ]
    for name in ("answers", "lens"):
        if name in run.stores:
            run.stores[name].check()
    # The option axis of the files may be longer, so that shards begin on pages.
    n_options = run.plan.answers.n_options
    total = run.stores["answers"].layer(0)[:, :n_options]
    lens = None
    if run.plan.answers.lens:
        n_layers = run.plan.n_layers
        by_row = run.stores["lens"].layer(0)[:, : n_options * n_layers]
        lens = by_row.reshape(len(by_row), n_options, n_layers).transpose(2, 0, 1)
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


def _with_prior(
    run: Run, samples: Sequence[Sample], options: RowOptions, rows: NDArray[np.intp]
) -> RowOptions:
    why_not = _NO_BLANK
    asked = [samples[row] for row in rows.tolist()]
    for blank in blank_runs(run):
        try:
            others = blank.all_samples()
            place = _same_questions(asked, others)
            if (place < 0).all():
                continue  # another dataset
            n_missing = len(asked) - int(_is_done(blank, place).sum())
            if n_missing:
                why_not = (
                    f"run {blank.name} with blank pictures lacks {n_missing} of "
                    f"{format_count(len(asked), 'row')}"
                )
                continue
            prior = stored_options(blank, others)
        except (RunError, StoreError) as error:
            why_not = str(error)
            continue
        assert prior is not None, "the run was chosen for its answers"
        prior = prior.take(place)
        return replace(options, prior=prior.total, prior_lens=prior.lens, prior_source=blank.name)
    return replace(options, prior_source=why_not)


def _is_done(run: Run, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether each of `rows` is extracted; False for -1."""
    done = np.concatenate([one.rows_done for one in run.ledgers()])
    return np.isin(rows, done)


def _same_questions(asked: Sequence[Sample], others: Sequence[Sample]) -> NDArray[np.intp]:
    """The row of `others` with the same id, if it asks the same of a picture of this size; or -1."""
    by_id = {one.id: row for row, one in enumerate(others)}
    place = [by_id.get(one.id, -1) for one in asked]
    same = [
        row >= 0 and _question(one) == _question(others[row])
        for one, row in zip(asked, place, strict=True)
    ]
    return np.where(same, place, -1).astype(np.intp)


def _question(sample: Sample) -> tuple[object, ...]:
    return sample.prompt, sample.options, sample.option_tokens, sample.image_size
