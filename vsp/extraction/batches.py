"""Cuts a shard's rows into batches. The plan fixes them, so a resumed shard repeats them exactly.

A batch holds row groups. The rows of a group ask about one image and go through the model as one
sequence, which computes their common beginning once.

Several runs with the same pictures may go through the model together. Row `r` of run `k` of `n` runs
then has the key `r * n + k`, and a group holds keys of all of them. The keys of a run alone are its
rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

RowGroup = tuple[int, ...]  # keys of rows about one image that form one sequence
Batch = tuple[RowGroup, ...]
# The samples of a batch: one mapping from key to sample for each group.
SampleBatch = Sequence[Mapping[int, Sample]]


def cut_batches(plans: Sequence[Plan], samples: Mapping[int, Sample]) -> list[Batch]:
    """The batches of one shard of runs; `samples` maps the key of each row to its sample.

    Groups of similar length share a batch. The longest come first, so that a device with too
    little memory fails at once.
    """
    n_runs = len(plans)
    lengths_of_rows = {
        key: n_row_tokens(plans[key % n_runs].answers, sample) for key, sample in samples.items()
    }
    groups = _row_groups(samples, lengths_of_rows, plans[0].share, n_runs)
    lengths = {
        rows: n_group_tokens(samples[rows[0]].n_shared, [lengths_of_rows[row] for row in rows])
        for rows in groups
    }
    most_tokens = max(plan.batch_tokens for plan in plans)
    groups.sort(key=lambda rows: -lengths[rows])
    batches: list[list[RowGroup]] = []
    for rows in groups:
        longest = lengths[batches[-1][0]] if batches else 0
        full = (len(batches[-1]) + 1) * longest > most_tokens if batches else True
        if full or lengths[rows] < _MIN_FILL * longest:
            batches.append([])
        batches[-1].append(rows)
    return [tuple(sorted(batch)) for batch in batches]


def batches_with(runs: Sequence[Run], shard: Shard, keys: set[int]) -> list[SampleBatch]:
    """The samples of each batch with at least one of `keys`; the batches stay whole."""
    samples = joint_rows([run.samples(shard) for run in runs], shard.start)
    full = with_option_tokens([run.plan for run in runs], samples)
    return [
        [{key: full[key] for key in group} for group in batch]
        for batch in cut_batches([run.plan for run in runs], samples)
        if any(keys.intersection(group) for group in batch)
    ]


def joint_rows(samples: Sequence[Sequence[Sample]], start: int = 0) -> dict[int, Sample]:
    """The key of each row of several runs, and its sample; `start` is the first row."""
    rows = zip(*samples, strict=True)
    return dict(enumerate((one for row in rows for one in row), start * len(samples)))


def keys_of(rows: Sequence[Iterable[int]]) -> set[int]:
    """The keys of rows of each run."""
    return {row * len(rows) + number for number, of_run in enumerate(rows) for row in of_run}


def rows_by_run(keys: Iterable[int], n_runs: int) -> dict[int, set[int]]:
    """The rows of keys: number of a run → its rows; runs without any are left out."""
    rows: dict[int, set[int]] = {}
    for key in keys:
        rows.setdefault(key % n_runs, set()).add(key // n_runs)
    return dict(sorted(rows.items()))


def with_option_tokens(
    plans: Sequence[Plan], samples: Mapping[int, Sample]
) -> Mapping[int, Sample]:
    """The samples by key, with the tokens of the options that all rows of their run have."""
    common = [() if plan.answers is None else plan.answers.options for plan in plans]
    tokens = [tuple(option.tokens for option in options) for options in common]
    if not any(tokens):
        return samples
    return {
        key: replace(sample, option_tokens=own) if (own := tokens[key % len(plans)]) else sample
        for key, sample in samples.items()
    }


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


def keys_by_picture(samples: Mapping[int, Sample], n_runs: int) -> list[list[int]]:
    """The keys of the rows of a shard that show one picture, in the order of their first rows.

    Of a run alone, these are neighbouring rows about one file. Runs that are extracted together have
    files of their own, and another order of pictures, so that rows are joined by content.
    """
    if n_runs == 1:
        files = groupby(samples, key=lambda key: (samples[key].image, samples[key].depth))
        return [list(keys) for _, keys in files]
    found: dict[tuple[str, str], list[int]] = {}
    for key, sample in samples.items():
        depth = samples[key - key % n_runs].depth  # that of the first run: the same content
        found.setdefault((sample.image_sha256, depth), []).append(key)
    return list(found.values())


def _row_groups(
    samples: Mapping[int, Sample], lengths: Mapping[int, int], share: bool, n_runs: int
) -> list[RowGroup]:
    """The rows about one picture as groups; without `share`, one row each."""
    groups: list[RowGroup] = []
    for keys in keys_by_picture(samples, n_runs):
        groups += _split_rows(keys, samples, lengths, share)
    return groups


def _split_rows(
    rows: Sequence[int], samples: Mapping[int, Sample], lengths: Mapping[int, int], share: bool
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
