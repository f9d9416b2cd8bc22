"""`vsp answer --generate`: what a model writes behind the prompts of some rows of a run.

It needs the plan, the manifest and the images, not the states.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vsp import models
from vsp.errors import RunError
from vsp.extraction.answer_matching import match_option, words
from vsp.extraction.preprocess import prepare
from vsp.extraction.row_options import options_of
from vsp.models.contract import Processor, VisionLanguageModel
from vsp.models.fingerprint import fingerprint
from vsp.models.placement import visible_devices
from vsp.storage.manifest import Sample
from vsp.storage.run import Run
from vsp.utils.files import write_aside
from vsp.utils.progress import progress

FILE = "free_answers.jsonl"
Kind = Literal["exact", "prefix", "contained", "none", "failed"]  # as of a `Match`, or failed


@dataclass(frozen=True, slots=True)
class FreeAnswer:
    """The text of a row, and the option that it names."""

    row: int
    id: str
    label: str
    options: tuple[str, ...]
    text: str | None  # None: the row failed
    match: str | None
    how: Kind
    reason: str  # why no option was matched, or why the row failed
    cut: bool  # whether the text reached the limit of tokens

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
    def n_cut(self) -> int:
        return sum(answer.cut for answer in self.answers)


def free_answers(run: Run, n_wanted: int, n_tokens: int) -> FreeAnswers:
    """Continue the prompts of `n_wanted` rows by at most `n_tokens` tokens each.

    Raises RunError if the checkpoint or the manifest was changed since the plan, or if no row has a
    text.
    """
    plan = run.plan
    run.check_checkpoint(fingerprint(plan.model))
    chosen = set(choose_rows(plan.n_samples, n_wanted))
    samples = {row: one for row, one in enumerate(run.manifest.rows()) if row in chosen}
    processor = models.read_processor(plan.model)
    model = models.read_model(plan.model, visible_devices(plan.devices))
    answers = []
    with progress(f"answer {run.name}", "rows", len(samples)) as advance:
        for row, sample in samples.items():
            answers.append(_answer(run, row, sample, processor, model, n_tokens))
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


def _answer(
    run: Run,
    row: int,
    sample: Sample,
    processor: Processor,
    model: VisionLanguageModel,
    n_tokens: int,
) -> FreeAnswer:
    options = options_of(run.plan, sample)
    of_row = partial(FreeAnswer, row, sample.id, sample.label, options)
    ready = prepare(processor, [{row: sample}])
    if ready.failures:
        return of_row(None, None, "failed", ready.failures[row], False)
    try:
        (tokens,) = model.generate(ready.groups, n_tokens)
    except MemoryError as error:
        return of_row(None, None, "failed", f"out of memory: {error}", False)
    text = processor.decode(tokens)
    match = match_option(text, options)
    return of_row(text, match.option, match.how, match.reason, len(tokens) == n_tokens)
