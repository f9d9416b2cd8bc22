"""`vsp answer --generate`: what a model writes behind the prompts of some rows of a run.

It needs the plan, the manifest and the images, not the states. Rows with stored answers are compared
with them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vsp import models
from vsp.errors import RunError
from vsp.extraction.answer_matching import match_option, words
from vsp.extraction.preprocess import prepare
from vsp.extraction.row_options import options_of
from vsp.models.contract import Loaded
from vsp.models.fingerprint import fingerprint
from vsp.models.placement import visible_devices
from vsp.storage.manifest import Sample
from vsp.storage.run import Run
from vsp.utils.files import write_aside
from vsp.utils.progress import progress

Kind = Literal["exact", "prefix", "contained", "none", "failed"]  # as of a `Match`, or failed


@dataclass(frozen=True, slots=True)
class FreeAnswer:
    """The text of a row, and the option that it names."""

    row: int
    id: str
    label: str
    options: tuple[str, ...]
    likeliest: str | None  # the option of the largest stored log-likelihood; None: not stored
    text: str | None = None  # None: the row failed
    match: str | None = None
    how: Kind = "failed"
    reason: str = ""  # why no option was matched, or why the row failed
    cut: bool = False  # whether the text reached the limit of tokens

    @property
    def right(self) -> bool:
        """Whether the text names the row's label."""
        return self.match is not None and words(self.match) == words(self.label)


@dataclass(frozen=True, slots=True)
class FreeAnswers:
    """The texts of some rows of a run."""

    run: str
    n_rows: int  # of the run
    n_tokens: int  # limit of each text
    answers: tuple[FreeAnswer, ...]

    @property
    def counts(self) -> dict[Kind, int]:
        """Number of rows by the kind of their match."""
        found = Counter(answer.how for answer in self.answers)
        return {how: found[how] for how in get_args(Kind)}

    @property
    def matched(self) -> list[FreeAnswer]:
        """Rows whose text names an option."""
        return [answer for answer in self.answers if answer.match is not None]

    @property
    def unmatched(self) -> list[FreeAnswer]:
        """Rows whose text names no option, or several."""
        return [answer for answer in self.answers if answer.how == "none"]

    @property
    def compared(self) -> list[FreeAnswer]:
        """Rows whose text names an option, and whose most likely option is known."""
        return [answer for answer in self.matched if answer.likeliest is not None]

    @property
    def n_agreeing(self) -> int:
        """Rows whose text names the most likely option."""
        return sum(answer.match == answer.likeliest for answer in self.compared)

    @property
    def n_cut(self) -> int:
        return sum(answer.cut for answer in self.answers)


def free_answers(run: Run, n_wanted: int, n_tokens: int) -> FreeAnswers:
    """Continue the prompts of `n_wanted` rows by at most `n_tokens` tokens each.

    Raises RunError if the checkpoint or the manifest was changed since the plan, or if no row has a
    text, StoreError if the array of stored answers is not that of the run.
    """
    run.require_planned("answer")
    plan = run.plan
    run.check_checkpoint(fingerprint(plan.model))
    chosen = set(choose_rows(plan.n_samples, n_wanted))
    samples = {row: one for row, one in enumerate(run.manifest.rows()) if row in chosen}
    likeliest = _likeliest(run, samples)
    loaded = models.load(plan.model, visible_devices(plan.devices))
    answers = []
    with progress(f"answer {run.name}", "rows", len(samples)) as advance:
        for row, sample in samples.items():
            options = options_of(plan, sample)
            blank = FreeAnswer(row, sample.id, sample.label, options, likeliest.get(row))
            answers.append(_answer(loaded, blank, sample, n_tokens))
            advance(1)
    if all(answer.how == "failed" for answer in answers):
        raise RunError(
            f"run {run.name}: no row has a text; row {answers[0].row} failed: {answers[0].reason}"
        )
    return FreeAnswers(run.name, plan.n_samples, n_tokens, tuple(answers))


def choose_rows(n_rows: int, n_wanted: int) -> list[int]:
    """A row from each of `n_wanted` equal parts of a run; all rows if there are fewer.

    Rows at equal distances could all have one label, because datasets repeat their labels in turn.
    A fixed seed draws the row of each part, so the same rows are chosen every time.
    """
    n_parts = min(n_rows, n_wanted)
    bounds = np.arange(n_parts + 1) * n_rows // n_parts
    rows: list[int] = np.random.default_rng(0).integers(bounds[:-1], bounds[1:]).tolist()
    return rows


def write_free_answers(path: Path, found: FreeAnswers) -> None:
    """Write a line of JSON for each row; replaces the file of an earlier call."""
    with write_aside(path) as file:
        for answer in found.answers:
            file.write(json.dumps(asdict(answer)).encode() + b"\n")


def _answer(loaded: Loaded, blank: FreeAnswer, sample: Sample, n_tokens: int) -> FreeAnswer:
    """`blank` with the text of its row, or with the reason why the row failed."""
    ready = prepare(loaded.processor, [{blank.row: sample}])
    if ready.failures:
        return replace(blank, reason=ready.failures[blank.row])
    try:
        (tokens,) = loaded.model.generate(ready.groups, n_tokens)
    except MemoryError as error:
        return replace(blank, reason=f"out of memory: {error}")
    text = loaded.processor.decode(tokens)
    match = match_option(text, blank.options)
    return replace(
        blank,
        text=text,
        match=match.option,
        how=match.how,
        reason=match.reason,
        cut=len(tokens) == n_tokens,
    )


def _likeliest(run: Run, samples: Mapping[int, Sample]) -> dict[int, str]:
    """The most likely option, by total log-likelihood, of each row with stored answers."""
    if run.plan.answers is None:
        return {}
    done = {row for ledger in run.ledgers() for row in ledger.rows_done.tolist()}
    rows = sorted(done & samples.keys())
    if not rows:  # the array may be lost
        return {}
    store = run.stores["answers"]
    store.check()
    stored = store.layer(0)
    likeliest = {}
    for row in rows:
        options = options_of(run.plan, samples[row])
        values = stored[row, : len(options)]
        if not np.isfinite(values).all():
            raise RunError(f"run {run.name}: row {row} of answers.npy is damaged; use `vsp verify`")
        likeliest[row] = options[int(values.argmax())]
    return likeliest
