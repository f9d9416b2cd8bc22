"""Sentences about the effects of interventions, for the page in the terminal and the one in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING

import numpy as np

from vsp.choices import position_words
from vsp.reporting.formatting import format_layers
from vsp.storage.found_effects import ERASE, PATCH, STEER
from vsp.utils.text import format_count

if TYPE_CHECKING:
    from vsp.storage.found_effects import Floats, FoundEffects

USED, NOT_SHOWN = "used", "not shown to be used"
_METHODS = {"leace": "LEACE", "inlp": "INLP"}
_TOKENS = {
    "last": "last token", "subject": "subject tokens", "reference": "reference tokens",
    "image": "image tokens", "box": "image tokens of the boxes", "all": "all tokens",
}  # fmt: skip
Place = tuple[int, int]  # entry of the layer, and setting


def setting_name(found: FoundEffects, setting: int) -> str:
    """A setting in words: "direction × 2", "LEACE", "image tokens", "random-3 × 2"."""
    one = found.settings[setting]
    if found.kind == STEER:
        return f"{one.name} × {one.scale:g}"
    if found.kind == PATCH:
        return _TOKENS.get(one.name, one.name)
    return _METHODS.get(one.name, one.name)


def verdict_word(found: FoundEffects) -> str:
    """USED or NOT_SHOWN; empty for patches, which do not say."""
    return "" if found.is_used is None else USED if found.is_used else NOT_SHOWN


def shown_scale(found: FoundEffects) -> float | None:
    """The scale with effects in the most layers; of several, the largest. None without any."""
    passed = found.passed().sum(axis=0)
    scales = [(int(passed[i]), found.settings[i].scale) for i in found.tested]
    return max(scales)[1] if scales else None


def claim_p(found: FoundEffects) -> Floats:
    """Corrected p of the claim [layer, setting]: the larger one of its tests."""
    if found.kind == PATCH:
        return found.figures.p_corrected
    return np.asarray(np.maximum(found.figures.p_random_corrected, found.figures.p_corrected))


def effects_sentence(found: FoundEffects) -> str:
    """The answer: where the change moves the answers, and whether what was changed is used."""
    if found.kind == PATCH:
        return _patch_sentence(found)
    word = verdict_word(found)
    return f"{_claim(found)} {word[:1].upper()}{word[1:]}."


def _claim(found: FoundEffects) -> str:
    controls = _controls(found)
    why = untested(found)
    if why:
        return f"Not tested against {controls}: {why}."
    places = _places(found)
    if not places:
        n = format_count(_n_random(found), controls.removesuffix("s"))
        return (
            f"No layer moves the answer {_direction(found)} more than {n} at corrected p < "
            f"{found.level:g} when {_done(found)}."
        )
    beaten = _beaten(found, places, controls)
    said = f"{_subject(found, places)} at {_layers(found, places)} moves the answer {_direction(found)} "
    return f"{said}more than {beaten}{_unrelated(found, places)}; {_most(found, places)}."


def _controls(found: FoundEffects) -> str:
    return "random subspaces" if found.kind == ERASE else "random directions"


def _direction(found: FoundEffects) -> str:
    return "away from the row's own label" if found.kind == ERASE else "towards the target"


def _done(found: FoundEffects) -> str:
    names = dict.fromkeys(setting_name(found, i) for i in found.tested)
    return "the direction is added" if found.kind == STEER else f"erased with {' or '.join(names)}"


def _subject(found: FoundEffects, places: Sequence[Place]) -> str:
    if found.kind == STEER:
        return "Adding the direction"
    names = dict.fromkeys(setting_name(found, setting) for _, setting in places)
    return f"Erasing with {' or '.join(names)}"


def _n_random(found: FoundEffects) -> int:
    """The fewest random settings of a tested scale."""
    return min((found.n_random(found.settings[i].scale) for i in found.tested), default=0)


def n_random_needed(found: FoundEffects) -> int:
    """The fewest random settings with which p can be under the level."""
    return floor(1 / found.level + 1e-9)


def untested(found: FoundEffects) -> str:
    """Why no claim can be made; empty if one can."""
    if not found.tested:
        return "no scale is above 0"
    n = max(found.n_random(found.settings[i].scale) for i in found.tested)
    needed = n_random_needed(found)
    if n < needed:
        return f"p < {found.level:g} needs {needed} of them, and there are {n}"
    if found.n_groups < _n_groups_needed(found):
        return f"p < {found.level:g} needs {_n_groups_needed(found)} groups of rows, and there are {found.n_groups}"
    return ""


def _n_groups_needed(found: FoundEffects) -> int:
    """The fewest groups with which two-sided sign flips can be under the level."""
    n = 1
    while 2.0 ** (1 - n) >= found.level:
        n += 1
    return n


def _places(found: FoundEffects) -> list[Place]:
    return [(int(entry), int(setting)) for entry, setting in np.argwhere(found.passed())]


def _layers(found: FoundEffects, places: Sequence[Place]) -> str:
    layers = {found.layers[entry] for entry, _ in places}
    return f"layer{'s' * (len(layers) > 1)} {format_layers(layers)}"


def _beaten(found: FoundEffects, places: Sequence[Place], controls: str) -> str:
    """The controls that a change beats, with the rank where it is not the first."""
    rank = max(int(found.figures.rank[place]) for place in places)
    n = max(found.n_random(found.settings[setting].scale) for _, setting in places)
    return f"all {n} {controls}" if rank == 1 else f"{n} {controls} (rank {rank} or better)"


def _unrelated(found: FoundEffects, places: Sequence[Place]) -> str:
    """Whether the direction of an unrelated label moves the answer less; empty without one."""
    low = found.figures.over_unrelated_low
    known = [place for place in places if not np.isnan(low[place])]
    if not known:
        return ""
    above = [place for place in known if low[place] > 0]
    if not above:
        return ", but not clearly more than the direction of an unrelated label"
    entries = {entry for entry, _ in above}
    where = "" if entries == {entry for entry, _ in known} else f" (at {_layers(found, above)})"
    return f" and the direction of an unrelated label{where}"


def _most(found: FoundEffects, places: Sequence[Place]) -> str:
    """The largest share of flips and where it is; without open rows, the largest change."""
    flips = found.figures.flip
    known = [place for place in places if not np.isnan(flips[place])]
    if not known:
        entry, setting = max(places, key=lambda place: found.figures.change[place])
        return f"the log odds change by up to {change_words(found, entry, setting)}{_at(found, entry, setting)}"
    entry, setting = max(known, key=lambda place: flips[place])
    what = "right answers" if found.kind == ERASE else "answers"
    verb = "changes" if found.kind == ERASE else "flips"
    return f"{verb} up to {flip_words(found, entry, setting)} of the {what}{_at(found, entry, setting)}"


def _at(found: FoundEffects, entry: int, setting: int) -> str:
    scale = f", scale {found.settings[setting].scale:g}" if found.kind == STEER else ""
    tokens = f"{setting_name(found, setting)}, " if found.kind == PATCH else ""
    return f" ({tokens}layer {found.layers[entry]}{scale})"


def flip_words(found: FoundEffects, entry: int, setting: int) -> str:
    """ "41% [36, 46]"."""
    figures = found.figures
    share, *bounds = (
        one[entry, setting] for one in (figures.flip, figures.flip_low, figures.flip_high)
    )
    if np.isnan(share):
        return "–"
    ends = "" if np.isnan(bounds).any() else f" [{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]"
    return f"{100 * share:.0f}%{ends}"


def change_words(found: FoundEffects, entry: int, setting: int) -> str:
    """ "+1.234 [+1.100, +1.368]"."""
    figures = found.figures
    value, low, high = (
        float(one[entry, setting])
        for one in (figures.change, figures.change_low, figures.change_high)
    )
    ends = "" if np.isnan(low) else f" {signed_interval(low, high)}"
    return f"{signed(value)}{ends}"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a dash for an undefined one; never "-0.000"."""
    return "–" if np.isnan(value) else f"{round(float(value), digits) + 0.0:+.{digits}f}"


def signed_interval(low: float, high: float) -> str:
    return "–" if np.isnan(low) or np.isnan(high) else f"[{signed(low)}, {signed(high)}]"


def _patch_sentence(found: FoundEffects) -> str:
    start = f"Patching the states of {found.variant} moves the answer towards its label"
    places = _places(found)
    if found.n_groups < _n_groups_needed(found):
        return (
            f"Not tested: p < {found.level:g} needs {_n_groups_needed(found)} groups of rows, and there "
            f"are {found.n_groups}."
        )
    if not places:
        return f"{start} at no layer and tokens at corrected p < {found.level:g}."
    parts = []
    for setting in dict.fromkeys(setting for _, setting in places):
        own = [place for place in places if place[1] == setting]
        parts.append(f"{setting_name(found, setting)} at {_layers(found, own)}")
    return f"{start}: {', '.join(parts)}; {_most(found, places)}."


def effects_cautions(found: FoundEffects) -> list[str]:
    """Reasons to read the figures with care."""
    notes = []
    if found.n_groups == 1:
        notes.append("all rows are in one group, so there is no interval and no test")
    elif found.n_groups < _n_groups_needed(found):
        notes.append(
            f"{found.n_groups} groups are too few for the test over groups: p < {found.level:g} needs "
            f"{_n_groups_needed(found)}"
        )
    places = [] if found.kind == PATCH else _places(found)
    low = found.figures.over_unrelated_low
    weak = [place for place in places if low[place] <= 0]  # False for NaN
    if weak:
        notes.append(
            f"at {_layers(found, weak)}, the direction of an unrelated label moves the answer about as "
            "much, so the effect may be that of any large change"
        )
    return notes


def left_out_words(found: FoundEffects) -> list[str]:
    """Rows that do not count, and why."""
    return [f"{format_count(n, 'row')}: {why}" for why, n in found.left_out.items()]


def about_words(found: FoundEffects) -> str:
    """What was done, to which run and tokens."""
    if found.kind == PATCH:
        return f"states of {found.variant} put in the place of those of {found.of_run}"
    at = _TOKENS.get(found.position, position_words(found.position))
    what = "directions added to" if found.kind == STEER else "subspaces erased from"
    return f"{what} states of {found.of_run}, {at}"


def change_meaning(found: FoundEffects) -> str:
    """What the change is."""
    if found.kind == ERASE:
        return (
            "change: mean change of the log odds of all other options against the row's own label."
        )
    target = "the variant's label" if found.kind == PATCH else "the target"
    return f"change: mean change of log p({target}) − log p(own label) against no intervention."


def flip_meaning(found: FoundEffects) -> str:
    """What the flips are."""
    if found.kind == ERASE:
        return (
            "flips: share of rows answered with their own label whose answer becomes another one."
        )
    target = "the variant's label" if found.kind == PATCH else "the target"
    return (
        f"flips: share of rows not answered with {target} yet whose best option becomes {target}."
    )
