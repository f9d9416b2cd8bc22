"""The size of a run's largest batch, from which its memory is estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vsp.choices import LAST
from vsp.extraction.batches import Batch, cut_batches, n_group_tokens, n_row_tokens
from vsp.extraction.positions import NAMES
from vsp.models.memory import Load
from vsp.storage.manifest import Sample
from vsp.storage.plan import Plan
from vsp.storage.run import Run
from vsp.utils.garbage import garbage_collection_paused


@garbage_collection_paused()
def largest_batch(run: Run, samples: Sequence[Sample], n_values: int) -> Load:
    """The batch with the most tokens; a picture has `n_values` numbers."""

    def loads() -> Iterator[Load]:
        for shard in run.shards:
            rows = range(shard.start, shard.stop)
            by_row = dict(zip(rows, samples[shard.start : shard.stop], strict=True))
            for batch in cut_batches(run.plan, by_row):
                yield _load(run.plan, batch, by_row, n_values)

    return max(loads(), key=lambda load: (load.n_sequences * load.n_tokens, load.n_tokens))


def _load(plan: Plan, batch: Batch, samples: Mapping[int, Sample], n_values: int) -> Load:
    rows = [row for group in batch for row in group]
    lengths = {row: n_row_tokens(plan.answers, samples[row]) for row in rows}
    longest = max(
        n_group_tokens(samples[group[0]].n_shared, [lengths[row] for row in group])
        for group in batch
    )
    n_added = sum(lengths[row] - samples[row].n_tokens for row in rows)
    means = [one for one in plan.positions if one not in (LAST, *NAMES)]
    n_of = [dict(samples[row].tokens_of) for row in rows] if means else []
    return Load(
        n_sequences=len(batch),
        n_tokens=longest,
        n_rows=len(rows),
        n_values=len(batch) * n_values,
        branched=n_added > 0 or len(rows) > len(batch),
        n_positions=len(plan.positions) - len(means),
        averaged=tuple(len(rows) * max(n[position] for n in n_of) for position in means),
        # The last token of each prompt, and the tokens of options.
        n_queries=len(rows) + n_added if plan.answers is not None else 0,
        lens=plan.answers is not None and plan.answers.lens,
    )
