"""The work of an array task of an effects run: answers of rows whose states are changed at a layer.

A batch holds whole rows. Their pieces are packed into forward passes by tokens; the values of a row
are written when all its pieces are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vsp.errors import InputError, RunError
from vsp.extraction.batches import SampleBatch, with_option_tokens
from vsp.extraction.effects_batches import (
    Piece,
    Slot,
    effects_batches,
    packed,
    row_pieces,
    tokens_name,
)
from vsp.extraction.forward_parts import Arrays, Part, TokenLimit, out_of_memory
from vsp.extraction.preprocess import Prepared
from vsp.extraction.row_edits import Changes, EditedRow, Prompt, changed_tokens, read_changes_of
from vsp.models.contract import (
    Pending,
    PromptGroup,
    Recorded,
    VisionLanguageModel,
)
from vsp.models.edited_groups import settings_group
from vsp.models.edits import Edit
from vsp.storage.effects import Effects
from vsp.storage.manifest import Sample
from vsp.storage.plan import EFFECTS
from vsp.storage.run import Run, Shard

_PAIRED = "paired row: "  # begins the reason of a row whose paired row cannot be used


@dataclass(frozen=True, slots=True)
class _Work:
    """Settings of a row that go through the model together."""

    row: EditedRow
    slots: tuple[Slot, ...]

    def halves(self) -> list[_Work]:
        middle = len(self.slots) // 2
        return [replace(self, slots=some) for some in (self.slots[:middle], self.slots[middle:])]


@dataclass(frozen=True, slots=True)
class _Pass:
    """The groups of a forward pass, and where its rows belong."""

    groups: list[PromptGroup]
    edits: list[Edit]
    works: Sequence[_Work]
    firsts: Sequence[int]  # the unchanged row of each work among the rows; its settings follow


@dataclass(frozen=True, slots=True)
class EffectsOfChanges:
    """Computes an effects run. The paired row of row i is number n_samples + i of a batch."""

    run: Run
    effects: Effects
    changes: Changes
    n_options: int
    _shards: dict[int, _ShardRows] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> EffectsOfChanges:
        """Raises RunError if the changes of the run are not those of its plan."""
        answers = run.plan.answers
        n_options = 0 if answers is None else answers.n_options
        return cls(run, run.of_effects(), read_changes_of(run), n_options)

    def batches(self, shard: Shard, rows: set[int]) -> Sequence[SampleBatch]:
        of_shard, n = self._of_shard(shard), self.run.plan.n_samples
        cut = effects_batches(self.run.plan, self.effects, of_shard.samples, of_shard.donors)
        return [
            [
                *({row: of_shard.full[row]} for row in batch),
                *({n + row: of_shard.donors[row]} for row in batch if of_shard.donors),
            ]
            for batch in cut
            if rows.intersection(batch)
        ]

    def rows_alone(self, shard: Shard) -> set[int]:
        """None: the unchanged row of each piece is computed beside its settings."""
        return set()

    def parts(
        self,
        model: VisionLanguageModel,
        batch: Prepared,
        memory: TokenLimit,
        failures: dict[int, str],
    ) -> Iterator[Part]:
        """Run all settings of the rows, and yield them together.

        A pass that does not fit the device is halved, at last between the settings of a row. A row
        fails if one of its settings does not fit alone, or cannot be made.
        """
        pieces = packed(self._pieces(batch, failures), self.run.plan.batch_tokens)
        waiting = [[_Work(row, piece.slots) for row, piece in one] for one in pieces]
        recorded = Recorded((), self.n_options)
        done: list[tuple[_Pass, Pending]] = []
        rows = {work.row.number for works in waiting for work in works}
        while waiting:
            works = [work for work in waiting.pop(0) if work.row.number not in failures]
            if not works:
                continue
            one = self._built(works)
            is_least = len(works) == 1 and len(works[0].slots) == 1
            if memory.allows(one.groups) or is_least:
                try:
                    done.append((one, model.forward(one.groups, recorded, one.edits)))
                    continue
                except MemoryError as error:
                    if is_least:
                        failures[works[0].row.number] = out_of_memory(error)
                        continue
                    memory.lower(one.groups)
            waiting[:0] = _halves(works)
        good = tuple(sorted(rows - failures.keys()))
        if good:
            yield Part(good, self._values(good, done))

    def _of_shard(self, shard: Shard) -> _ShardRows:
        if shard.index not in self._shards:
            self._shards[shard.index] = _ShardRows.of(self.run, self.effects, shard)
        return self._shards[shard.index]

    def _pieces(self, batch: Prepared, failures: dict[int, str]) -> list[tuple[EditedRow, Piece]]:
        """The pieces of all rows of a batch that can be changed; the others go to `failures`."""
        n = self.run.plan.n_samples
        every = [(group.picture, row) for group in batch.groups for row in group.rows]
        prompts = {
            number: Prompt(*prompt) for number, prompt in zip(batch.rows, every, strict=True)
        }
        for number in [number for number in failures if number >= n]:
            failures.setdefault(number - n, _PAIRED + failures[number])
        found = []
        for number in sorted(number for number in prompts if number < n):
            of_shard, sample = self._sample(number)
            row = EditedRow(number, sample.label, prompts[number], prompts.get(n + number))
            try:
                if number not in failures:
                    self._check(row)
                    donor = of_shard.donors.get(number)
                    pieces = row_pieces(self.run.plan, self.effects, sample, donor)
                    found += [(row, piece) for piece in pieces]
            except InputError as error:
                failures[number] = str(error)
        return found

    def _sample(self, row: int) -> tuple[_ShardRows, Sample]:
        for of_shard in self._shards.values():
            if row in of_shard.samples:
                return of_shard, of_shard.samples[row]
        raise RunError(f"run {self.run.name}: row {row} belongs to no batch that was made")

    def _check(self, row: EditedRow) -> None:
        """Raise InputError if a setting cannot be made of a row."""
        for setting in range(1, len(self.effects.settings)):
            changed_tokens(row, tokens_name(self.effects, setting))
            self.changes.change(row, 0, setting, 0)

    def _built(self, works: Sequence[_Work]) -> _Pass:
        one, firsts = _Pass([], [], works, []), []
        donors: dict[int, int] = {}  # row of the run → row of the pass with its paired row
        n_rows = 0
        for work in works:
            row = work.row
            if row.donor is not None and row.number not in donors:
                alone = replace(row.donor.row, options=())
                one.groups.append(PromptGroup(row.donor.picture, (alone,), 0))
                donors[row.number] = n_rows
                n_rows += 1
            settings = self._edits(work, donors.get(row.number, 0))
            groups, edits = settings_group(row.prompt.picture, row.prompt.row, settings, n_rows)
            one.groups.extend(groups if self.run.plan.share else _alone(groups))
            one.edits.extend(edits)
            firsts.append(n_rows)
            n_rows += len(settings)
        return replace(one, firsts=firsts)

    def _edits(self, work: _Work, donor_row: int) -> list[list[Edit]]:
        """The edits of the unchanged row, which has none, then those of each setting."""
        settings: list[list[Edit]] = [[]]
        for layer, setting in work.slots:
            tokens = changed_tokens(work.row, tokens_name(self.effects, setting))
            change = self.changes.change(work.row, layer, setting, donor_row)
            settings.append([Edit(0, self.effects.layers[layer], tokens, change)])
        return settings

    def _values(self, rows: Sequence[int], done: Sequence[tuple[_Pass, Pending]]) -> Arrays:
        """Waits for the values [1, row, option × layer × setting] of these rows."""
        effects, n_options = self.effects, self.n_options
        shape = len(rows), n_options, len(effects.layers), len(effects.settings)

        def arrays() -> Mapping[str, NDArray[np.floating]]:
            values = np.full(shape, np.nan, np.float32)
            computed = np.zeros((shape[0], shape[2]), np.bool_)  # the unchanged row of a layer
            column = {row: i for i, row in enumerate(rows)}
            for one, pending in done:
                answers = pending().answers
                for work, first in zip(one.works, one.firsts, strict=True):
                    i = column.get(work.row.number)
                    if i is None or answers is None:
                        continue
                    for k, (layer, setting) in enumerate(work.slots, start=first + 1):
                        values[i, :, layer, setting] = answers[k]
                        if not computed[i, layer]:
                            values[i, :, layer, 0] = answers[first]
                            computed[i, layer] = True
            return {EFFECTS: values.reshape(1, len(rows), -1)}

        return arrays


@dataclass(frozen=True, slots=True)
class _ShardRows:
    """The samples of a shard by row; `full` also have the tokens of the common options."""

    samples: Mapping[int, Sample]
    full: Mapping[int, Sample]
    donors: Mapping[int, Sample]  # empty but for a patch

    @classmethod
    def of(cls, run: Run, effects: Effects, shard: Shard) -> _ShardRows:
        samples = dict(enumerate(run.samples(shard), start=shard.start))
        paired = run.donors.rows(shard.start, shard.stop) if effects.kind == "patch" else ()
        donors = dict(enumerate(paired, start=shard.start))
        return cls(samples, with_option_tokens([run.plan], samples), donors)


def _halves(works: Sequence[_Work]) -> list[list[_Work]]:
    if len(works) == 1:
        return [[half] for half in works[0].halves()]
    middle = len(works) // 2
    return [list(works[:middle]), list(works[middle:])]


def _alone(groups: Sequence[PromptGroup]) -> Iterator[PromptGroup]:
    """A group for each row, which shares nothing."""
    for group in groups:
        for row in group.rows:
            yield PromptGroup(group.picture, (row,), 0)
