"""The verdict *used* or *not shown to be used*, from the effects of interventions."""

from __future__ import annotations

from collections.abc import Sequence

from vsp.evaluation.verdict_evidence import Use
from vsp.storage.found_effects import FoundEffects


def uses_of(effects: Sequence[FoundEffects]) -> tuple[Use, ...]:
    """The verdict of each run of directions or erasures; patches give none, as they have no controls."""
    return tuple(_use(one) for one in effects if one.is_used is not None)


def _use(found: FoundEffects) -> Use:
    layers = tuple(
        layer for layer, one in zip(found.layers, found.passed(), strict=True) if one.any()
    )
    return Use("used" if layers else "not shown to be used", found.run, found.kind, layers)
