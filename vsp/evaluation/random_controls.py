"""Compares a direction with random ones: ranks, and p corrected over layers and scales.

Under the null hypothesis, the direction and the random ones of equal norm are exchangeable in each layer:
each is as likely as any other to change the answers most. p is therefore the rank among all of them,
divided by their number. With n random directions it is at least 1 / (n + 1), so p < 0.05 needs 20.

The correction uses the largest studentised change of each direction over layers and scales, as for
permuted labels (Westfall & Young, "Resampling-Based Multiple Testing", 1993). Random directions of
one name are drawn independently in each layer, as the null hypothesis says of the direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vsp.evaluation.scores import Floats
from vsp.storage.found_effects import FoundSetting

_EQUAL = 1e-9  # studentised changes in a different order differ in the last digits


def random_ranks(change: Floats, settings: Sequence[FoundSetting]) -> tuple[Floats, Floats]:
    """Rank of each change [layer, setting] among the random settings of its scale, and its p.

    1 is the largest; a random setting with an equal change counts as larger. NaN for random settings, and
    without any of the scale.
    """
    rank, p = np.full(change.shape, np.nan), np.full(change.shape, np.nan)
    for i, one in enumerate(settings):
        random = _random_of(settings, one.scale)
        if random and not one.is_random and one.scale:
            of_random = change[:, list(random.values())]
            rank[:, i] = 1 + (of_random >= change[:, [i]]).sum(axis=1)
            p[:, i] = rank[:, i] / (1 + len(random))
    return rank, p


def corrected_over_layers(change: Floats, settings: Sequence[FoundSetting]) -> Floats:
    """p [layer, setting] corrected over layers and scales above 0; NaN for controls.

    If several methods are tested, such as two ways to erase, p is also multiplied by their number.
    """
    p = np.full(change.shape, np.nan)
    families: dict[str, list[int]] = {}
    for i, one in enumerate(settings):
        if not one.is_control and one.scale > 0 and _random_of(settings, one.scale):
            families.setdefault(one.name, []).append(i)
    for places in families.values():
        p[:, places] = np.minimum(_of_family(change, settings, places) * len(families), 1.0)
    return p


def _random_of(settings: Sequence[FoundSetting], scale: float) -> dict[str, int]:
    """The random settings of a scale: name → place."""
    return {one.name: i for i, one in enumerate(settings) if one.is_random and one.scale == scale}


def _of_family(change: Floats, settings: Sequence[FoundSetting], places: Sequence[int]) -> Floats:
    """p [layer, place] of one direction at several scales."""
    random = [_random_of(settings, settings[i].scale) for i in places]
    names = [name for name in random[0] if all(name in of_scale for of_scale in random)]
    if not names:  # no random direction has all scales
        return np.ones((len(change), len(places)))
    columns = [
        [i, *(of_scale[name] for name in names)] for i, of_scale in zip(places, random, strict=True)
    ]
    of_all = change[:, columns]  # [layer, scale, direction]; the first is the one that is tested
    error = of_all.std(axis=2, keepdims=True)
    centred = of_all - of_all.mean(axis=2, keepdims=True)
    studentised = np.divide(centred, error, out=np.zeros_like(centred), where=error > 0)
    largest = studentised[..., 1:].max(axis=(0, 1))
    observed = studentised[..., :1] - _EQUAL
    n_as_large = (largest >= observed).sum(axis=2)
    return np.asarray((1 + n_as_large) / (1 + len(names)))
