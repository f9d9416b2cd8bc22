"""Answers of planted linear readouts under interventions, as `vsp.evaluation.effects` takes them.

A row's logits are drawn; adding a vector at a layer adds the readout of the vector, times the strength of
the layer and a gain of the row, which rows of a group share in part.
"""

from dataclasses import dataclass

import numpy as np

from vsp.evaluation.effects import EffectRows, EffectSettings, effect_figures
from vsp.storage.found_effects import PATCH, STEER, FoundEffects, FoundSetting

N_OPTIONS, HIDDEN = 4, 24


def steering(scales=(0.5, 1.0, 2.0), n_random=20, unrelated=True):
    """The settings of `vsp steer`, without "none"."""
    names = ["direction", *["unrelated"] * unrelated, *(f"random-{k + 1}" for k in range(n_random))]
    return [FoundSetting(name, scale) for scale in scales for name in names]


@dataclass(frozen=True)
class EffectWorld:
    """A planted world: the strength of the direction in each layer, and its noise."""

    strength: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0)
    kind: str = STEER
    is_null: bool = False  # the direction is one more random one
    n_groups: int = 40
    per_group: int = 3
    noise: float = 0.5  # of the gain of a row
    spread: float = 1.0  # of the logits


def effect_rows(world=EffectWorld(), settings=None, seed=0):
    """Drawn rows; `settings` as `steering` makes them."""
    return drawn_effects(world, settings, seed)[0]


def drawn_effects(world=EffectWorld(), settings=None, seed=0):
    """Drawn rows, and the mean change [layer, setting] of all rows that could be drawn."""
    settings = steering() if settings is None else settings
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(world.n_groups), world.per_group)
    n = len(group)
    label = rng.integers(N_OPTIONS, size=n)
    logits = world.spread * rng.normal(size=(n, N_OPTIONS)) + 1.5 * np.eye(N_OPTIONS)[label]
    gain = 1 + world.noise * (rng.normal(size=world.n_groups)[group] + rng.normal(size=n)) / 2**0.5
    values = np.empty((len(world.strength), 1 + len(settings), n, N_OPTIONS), np.float32)
    truth = np.zeros((len(world.strength), len(settings)))
    readout, every = rng.normal(size=(N_OPTIONS, HIDDEN)), np.arange(N_OPTIONS)
    for layer, strength in enumerate(world.strength):
        values[layer, 0] = _log_softmax(logits)
        vectors = {
            name: _vectors(name, readout, world, rng)
            for name in dict.fromkeys(one.name for one in settings)
        }
        for place, one in enumerate(settings):
            moved = strength * one.scale * vectors[one.name] @ readout.T  # [label, option]
            truth[layer, place] = (
                moved[every, (every + 1) % N_OPTIONS] - moved[every, every]
            ).mean()
            values[layer, place + 1] = _log_softmax(logits + gain[:, None] * moved[label])
    return EffectRows(values, label, (label + 1) % N_OPTIONS, group.astype(str)), truth


def _vectors(name, readout, world, rng):
    """A unit vector for each label [label, hidden], that of the pair (label, next label)."""
    drawn = rng.normal(size=(N_OPTIONS, HIDDEN))
    if (name == "direction" and not world.is_null) or world.kind == PATCH:
        drawn = np.roll(readout, -1, axis=0) - readout
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


QUICK = EffectSettings(resamples=200, flips=199)


def found_effects(world=EffectWorld(), settings=None, seed=0, **changes):
    """The effects of a planted world, as a run would have them."""
    settings = steering() if settings is None else settings
    rows = effect_rows(world, settings, seed)
    values = {
        "run": "one-steer", "identity": "e" * 64, "rows_sha256": "d" * 64, "kind": world.kind,
        "of_run": "one", "of_identity": "a" * 64, "variant": "", "position": "last",
        "layers": tuple(range(len(world.strength))), "settings": tuple(settings),
        "n_done": len(rows.label), "n_rows": len(rows.label), "n_groups": world.n_groups,
        "left_out": {}, "confidence": QUICK.confidence, "level": QUICK.level,
        "resamples": QUICK.resamples, "flips_limit": QUICK.flips, "seed": QUICK.seed,
        "figures": effect_figures(rows, world.kind, settings, QUICK),
    }  # fmt: skip
    return FoundEffects(**{**values, **changes})


def patched(tokens=("last", "image", "box", "all")):
    return [FoundSetting(name, 1.0) for name in tokens]


def erasing(n_random=20):
    return [FoundSetting(n, 1.0) for n in ("leace", *(f"random-{k + 1}" for k in range(n_random)))]
