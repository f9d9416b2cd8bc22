"""The effects of a run of `vsp steer` or `vsp patch`, from its log-likelihoods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.evaluation.answers import name_options
from vsp.evaluation.effects import (
    EffectRows,
    EffectSettings,
    effect_figures,
    take_rows,
    usable_rows,
)
from vsp.storage.effects import Effects
from vsp.storage.found_effects import (
    FoundEffects,
    FoundSetting,
    read_effects,
    write_effects,
)
from vsp.storage.ledger import Ledger, failure_of_all
from vsp.storage.manifest import Sample
from vsp.storage.plan import EFFECTS
from vsp.storage.run import Run

NOT_COMPUTED = "not computed yet"


def run_effects(run: Run, how: EffectSettings | None = None) -> tuple[FoundEffects, bool]:
    """The effects of a run, kept in `results/NAME/`, and whether they were stored.

    Stored ones are read if they are of the same rows and settings. Raises RunError if the run holds
    states, if no row can show an effect, or if `results/NAME/` has effects of another plan; StoreError if
    the array is not that of the plan.
    """
    how = how or EffectSettings()
    planned, home = run.of_effects(), run.results
    ledgers = run.ledgers()
    digest = _digest(run, ledgers)
    stored = None
    with suppress(RunError):  # a damaged file is replaced
        stored = read_effects(home)
    if stored is not None and stored.identity != run.plan.identity():
        raise RunError(
            f"{home}: holds effects of another plan; move that folder to another place, or rename the run"
        )
    if stored is not None and stored.rows_sha256 == digest and _how(stored) == how:
        return stored, True
    found = _compute(run, planned, ledgers, digest, how)
    write_effects(found, home)
    return found, False


def _how(stored: FoundEffects) -> EffectSettings:
    return EffectSettings(
        stored.confidence, stored.level, stored.resamples, stored.flips_limit, stored.seed
    )


def _digest(run: Run, ledgers: Sequence[Ledger]) -> str:
    """SHA-256 of the plan, of the rows that are done, and of the checksums of their values."""
    digest = sha256(run.plan.identity().encode())
    for ledger in ledgers:
        digest.update(ledger.rows_done.astype(np.int64).tobytes())
        digest.update(ledger.crc32_done().tobytes())
        digest.update(repr(sorted(ledger.failed.items())).encode())
    return digest.hexdigest()


def _compute(
    run: Run, planned: Effects, ledgers: Sequence[Ledger], digest: str, how: EffectSettings
) -> FoundEffects:
    done = np.concatenate([one.rows_done for one in ledgers]).astype(np.intp)
    if not len(done):
        why = (
            failure_of_all(ledgers) or f"no row is computed yet; run `vsp extract --run {run.name}`"
        )
        raise RunError(f"run {run.name}: {why}")
    rows = _rows(run, done)
    used, left_out = usable_rows(rows, planned.kind)
    left_out = {**_not_done(run, ledgers), **left_out}
    if not used.any():
        reasons = "; ".join(f"{n:,} × {why}" for why, n in left_out.items())
        raise RunError(f"run {run.name}: no row can show an effect ({reasons}); plan the run again")
    rows = take_rows(rows, used)
    settings = tuple(FoundSetting(one.name, one.scale) for one in planned.settings[1:])
    return FoundEffects(
        run=run.name,
        identity=run.plan.identity(),
        rows_sha256=digest,
        kind=planned.kind,
        of_run=planned.run,
        of_identity=planned.run_id,
        variant=planned.variant,
        position=planned.position,
        layers=planned.layers,
        settings=settings,
        n_done=len(done),
        n_rows=len(rows.label),
        n_groups=len(np.unique(rows.group)),
        left_out=left_out,
        confidence=how.confidence,
        level=how.level,
        resamples=how.resamples,
        flips_limit=how.flips,
        seed=how.seed,
        figures=effect_figures(rows, planned.kind, settings, how),
    )


def _not_done(run: Run, ledgers: Sequence[Ledger]) -> dict[str, int]:
    """Rows without values, by reason."""
    failed = Counter(why for ledger in ledgers for why in ledger.failed.values())
    n_missing = sum(ledger.n_missing for ledger in ledgers)
    return {**failed, **({NOT_COMPUTED: n_missing} if n_missing else {})}


def _rows(run: Run, done: NDArray[np.intp]) -> EffectRows:
    """The rows that are done."""
    run.stores[EFFECTS].check()
    every = run.all_samples()
    samples = [every[row] for row in done.tolist()]
    return EffectRows(
        values=np.asarray(run.effects()[:, :, done]),
        label=_label_options(run, samples),
        target=run.effect_targets()[done].astype(np.intp),
        group=np.array([one.group for one in samples]),
    )


def _label_options(run: Run, samples: Sequence[Sample]) -> NDArray[np.intp]:
    """The option that is the label of each row; -1 if none is."""
    answers = run.plan.answers
    if answers is None:
        return np.full(len(samples), -1, np.intp)
    classes = sorted({one.label for one in samples})
    texts = [answers.texts_of(one) for one in samples]
    named, _ = name_options(texts, classes, answers.n_options)
    code = np.searchsorted(np.array(classes), [one.label for one in samples])
    is_label = named == code[:, None]
    return np.where(is_label.any(axis=1), is_label.argmax(axis=1), -1).astype(np.intp)
