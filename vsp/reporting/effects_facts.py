"""What interventions on a run show, beside what its probe knows and what the model says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vsp.storage.found_effects import effects_about
from vsp.storage.results import Results
from vsp.storage.sealed_summary import identity_of

if TYPE_CHECKING:
    from vsp.storage.found_effects import FoundEffects


def effects_of_results(
    results: Results, summary: Mapping[str, Any]
) -> tuple[list[FoundEffects], list[str]]:
    """The effects of interventions on the run of these results, and why others are not shown."""
    return effects_about(results.home, identity_of(summary))


def effects_lines(found: list[FoundEffects]) -> list[str]:
    """A line for each run of interventions: its name and its answer."""
    if not found:
        return []
    from vsp.reporting.effects_words import effects_sentence

    return [f"{one.run}: {effects_sentence(one)}" for one in found]


def effects_json_of(found: list[FoundEffects]) -> list[dict[str, Any]]:
    """Name, kind, answer and verdict of each; `vsp effects NAME --json` has the figures."""
    if not found:
        return []
    from vsp.reporting.effects_words import effects_sentence, verdict_word

    return [
        {
            "run": one.run,
            "kind": one.kind,
            "answer": effects_sentence(one),
            "verdict": verdict_word(one) or None,
        }
        for one in found
    ]
