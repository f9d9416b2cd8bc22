"""The lines that `vsp steer` and `vsp patch` print: the new run, its size and the next command."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vsp.choices import position_words
from vsp.reporting.formatting import format_model
from vsp.utils.text import format_bytes, format_count, format_ranges

if TYPE_CHECKING:
    from vsp.extraction.effects_plan import PlannedEffects
    from vsp.storage.effects import Effects

_NAME = 9  # characters of the column of names


def effects_lines(planned: PlannedEffects, width: int | None = None) -> list[str]:
    """The facts of a new run of effects, its cost, and the commands that start it.

    Facts are wrapped to `width`; commands are not, so that they can be copied.
    """
    run, plan = planned.run, planned.run.plan
    effects = run.of_effects()
    sizes = sorted(shard.stop - shard.start for shard in run.shards)
    rows = str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    n_values = len(effects.layers) * len(effects.settings)
    facts = {
        "run": [f"{plan.name}, in {run.folder}"],
        "of": [_what(effects)],
        "model": [f"{format_model(plan.model)}, computes in {plan.compute_dtype}"],
        "rows": [f"{format_count(plan.n_samples, 'row')} of run {effects.run}"],
        "layers": [f"{format_ranges(effects.layers)} ({len(effects.layers)})"],
        "settings": [_settings(effects)],
        "shards": [f"{len(sizes)} of {rows} rows, passes of at most {plan.batch_tokens} tokens"],
        "array": [f"{n_values} log-likelihoods for each row and option, float32"],
        "disk": [
            f"{format_bytes(planned.n_bytes)} reserved, {format_bytes(planned.free_bytes)} left free"
        ],
        "cost": [
            f"about {planned.n_tokens:,} tokens through the model, {planned.relative_cost:.2g} times "
            f"the extraction of {effects.run}"
        ],
        "next": [
            *planned.commands,
            f"or, with all later stages: vsp submit {plan.name}",
            f"or, on this machine: vsp extract --run {plan.name}",
        ],
    }
    return [
        f"{'' if i else name:<{_NAME - 1}} {line}"
        for name, lines in facts.items()
        for i, line in enumerate(_wrapped(name, lines, width))
    ]


def _what(effects: Effects) -> str:
    if effects.kind == "patch":
        return f"answers with states of the paired rows of run {effects.variant} in place of a row's own"
    where = position_words(effects.position)
    if effects.kind == "erase":
        return f"answers with the label erased from the states, at: {where}"
    return f"answers with a direction added to the states, at: {where}"


def _settings(effects: Effects) -> str:
    """The names and scales of the settings; random ones as their number."""
    names = list(dict.fromkeys(one.name for one in effects.settings))
    n_random = sum(name.startswith("random-") for name in names)
    shown = [name for name in names if not name.startswith("random-")]
    shown += [f"{n_random} random"] if n_random else []
    scales = dict.fromkeys(one.scale for one in effects.settings[1:])
    at = f", at scales {' '.join(f'{one:g}' for one in scales)}" if effects.kind == "steer" else ""
    return f"{', '.join(shown)}{at} ({len(effects.settings)})"


def _wrapped(name: str, lines: Sequence[str], width: int | None) -> list[str]:
    if width is None or name == "next":
        return list(lines)
    room = max(width - _NAME, _NAME)
    return [part for line in lines for part in textwrap.wrap(line, room, break_on_hyphens=False)]
