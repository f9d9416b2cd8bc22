"""The card of exported states: what they are, in JSON, inside or beside the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vsp.choices import LAST_LAYERS
from vsp.storage.convention import LayerConvention, check_layers


def card_convention(card: Mapping[str, Any] | None, n_layers: int) -> LayerConvention | None:
    """The layer convention that a card states; None if there is no card.

    Raises StoreError if it does not fit the number of layers.
    """
    if card is None:
        return None
    layers, last = card.get("layers"), card.get("last_layer")
    numbers = isinstance(layers, list) and all(type(layer) is int for layer in layers)
    if not isinstance(layers, list) or not numbers or last not in LAST_LAYERS:
        return LayerConvention(tuple(range(n_layers)), "unknown", assumed=True)
    return LayerConvention(check_layers(layers, n_layers), last, card.get("assumed") is not False)
