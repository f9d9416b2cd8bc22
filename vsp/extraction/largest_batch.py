"""The size of a run's largest batch, from which its memory is estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vsp.choices import LAST
from vsp.extraction.batches import (
    Batch,
    cut_batches,
    joint_rows,
    n_group_tokens,
    n_row_tokens,
)
from vsp.extraction.positions import NAMES
from vsp.models.memory import Load
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan
from vsp.storage.run import Run
from vsp.utils.garbage import garbage_collection_paused


@garbage_collection_paused()
def largest_batch(runs: Sequence[Run], samples: Sequence[Sequence[Sample]], n_values: int) -> Load:
    """The batch with the most tokens of runs that are extracted together, or of a run alone.

    `samples` are the rows of each run. A picture has `n_values` numbers.
    """
    plans = [run.plan for run in runs]

    def loads() -> Iterator[Load]:
        for shard in runs[0].shards:
            of_shard = [rows[shard.start : shard.stop] for rows in samples]
            by_key = joint_rows(of_shard, shard.start)
            for batch in cut_batches(plans, by_key):
                yield _load(plans, batch, by_key, n_values)

    return max(loads(), key=lambda load: (load.n_sequences * load.n_tokens, load.n_tokens))


def _load(
    plans: Sequence[Plan], batch: Batch, samples: Mapping[int, Sample], n_values: int
) -> Load:
    rows = [row for group in batch for row in group]
    lengths = {row: n_row_tokens(plans[row % len(plans)].answers, samples[row]) for row in rows}
    longest = max(
        n_group_tokens(samples[group[0]].n_shared, [lengths[row] for row in group])
        for group in batch
    )
    n_added = sum(lengths[row] - samples[row].n_tokens for row in rows)
    n_answering = sum(plans[row % len(plans)].answers is not None for row in rows)
    positions = list(dict.fromkeys(one for plan in plans for one in plan.positions))
    means = [one for one in positions if one not in (LAST, *NAMES)]
    n_of = [dict(samples[row].tokens_of) for row in rows] if means else []
    return Load(
        n_sequences=len(batch),
        n_tokens=longest,
        n_rows=len(rows),
        n_values=len(batch) * n_values,
        branched=n_added > 0 or len(rows) > len(batch),
        n_positions=len(positions) - len(means),
        averaged=tuple(len(rows) * max(n.get(position, 1) for n in n_of) for position in means),
        # The last token of each prompt, and the tokens of options.
        n_queries=n_answering + n_added if n_answering else 0,
        lens=any(plan.answers is not None and plan.answers.lens for plan in plans),
    )
