"""Cuts a shard's rows into batches. The plan fixes them, so a resumed shard repeats them exactly.

A batch holds row groups. The rows of a group ask about one image and go through the model as one
sequence, which computes their common beginning once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from vsp.storage.manifest import Sample
from vsp.storage.plan import Answers, Plan
from vsp.storage.run import Run, Shard
from vsp.utils.prefixes import proper_prefixes

N_RUN_ALONE = 4  # rows of a shard that are also run alone, to measure the batch effect
# Most tokens of a group, over its longest row: the cost of attention grows with pairs of tokens.
_MAX_GROWTH = 3
# Shortest group of a batch over the longest: shorter ones would be padding for the most part.
_MIN_FILL = 0.75

RowGroup = tuple[int, ...]  # rows about one image that form one sequence
Batch = tuple[RowGroup, ...]
# The samples of a batch: one mapping from row to sample for each group.
SampleBatch = Sequence[Mapping[int, Sample]]


def cut_batches(plan: Plan, samples: Mapping[int, Sample]) -> list[Batch]:
    """The batches of one shard; `samples` maps each of its rows to its sample.

    Groups of similar length share a batch. The longest come first, so that a device with too
    little memory fails at once.
    """
    lengths_of_rows = {row: n_row_tokens(plan.answers, sample) for row, sample in samples.items()}
    groups = _row_groups(samples, lengths_of_rows, plan.share)
    lengths = {
        rows: n_group_tokens(samples[rows[0]].n_shared, [lengths_of_rows[row] for row in rows])
        for rows in groups
    }
    groups.sort(key=lambda rows: -lengths[rows])
    batches: list[list[RowGroup]] = []
    for rows in groups:
        longest = lengths[batches[-1][0]] if batches else 0
        full = (len(batches[-1]) + 1) * longest > plan.batch_tokens if batches else True
        if full or lengths[rows] < _MIN_FILL * longest:
            batches.append([])
        batches[-1].append(rows)
    return [tuple(sorted(batch)) for batch in batches]


def batches_with(run: Run, shard: Shard, rows: set[int]) -> list[SampleBatch]:
    """The samples of each batch with at least one of `rows`; the batches stay whole."""
    samples = dict(enumerate(run.samples(shard), start=shard.start))
    full = with_option_tokens(run.plan, samples)
    return [
        [{row: full[row] for row in group} for group in batch]
        for batch in cut_batches(run.plan, samples)
        if any(rows.intersection(group) for group in batch)
    ]


def with_option_tokens(plan: Plan, samples: Mapping[int, Sample]) -> Mapping[int, Sample]:
    """The samples, with the tokens of the options that all rows have, if there are such options."""
    common = () if plan.answers is None else plan.answers.options
    tokens = tuple(option.tokens for option in common)
    if not tokens:
        return samples
    return {row: replace(sample, option_tokens=tokens) for row, sample in samples.items()}


def rows_to_run_alone(shard: Shard) -> set[int]:
    """Evenly spaced rows of a shard that are run alone as well as in their batches."""
    n_rows = shard.stop - shard.start
    return {shard.start + i * n_rows // N_RUN_ALONE for i in range(N_RUN_ALONE)}


def n_row_tokens(answers: Answers | None, sample: Sample) -> int:
    """Tokens of a row alone: of image and prompt, and those that its options add."""
    if answers is None:
        return sample.n_tokens
    own = len(proper_prefixes(sample.option_tokens))
    return sample.n_tokens + (own if sample.option_tokens else answers.n_tokens)


def n_group_tokens(n_shared: int, lengths: Sequence[int]) -> int:
    """Tokens of a row group with rows of these lengths: the shared ones count once."""
    return n_shared + sum(length - n_shared for length in lengths)


def _row_groups(
    samples: Mapping[int, Sample], lengths: Mapping[int, int], share: bool
) -> list[RowGroup]:
    """Neighbouring rows about one image as groups; without `share`, one row each."""
    groups: list[RowGroup] = []
    for _, rows in groupby(samples, key=lambda row: (samples[row].image, samples[row].depth)):
        groups += _split_rows(rows, samples, lengths, share)
    return groups


def _split_rows(
    rows: Iterator[int], samples: Mapping[int, Sample], lengths: Mapping[int, int], share: bool
) -> Iterator[RowGroup]:
    """Split rows about one image into groups that do not exceed `_MAX_GROWTH`."""
    group: list[int] = []
    total = longest = 0  # tokens of the group, and of its longest row alone
    for row in rows:
        own = lengths[row]
        total, longest = total + own - samples[row].n_shared, max(longest, own)
        if group and (not share or total > _MAX_GROWTH * longest):
            yield tuple(group)
            group = []
        if not group:
            total = longest = own
        group.append(row)
    yield tuple(group)
