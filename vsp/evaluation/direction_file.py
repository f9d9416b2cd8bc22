"""Directions by layer from a file of the user, for `vsp steer --direction FILE`.

`.npy`   numbers [layer, hidden], a direction for every layer of the run, from layer 0 on
`.npz`   `vectors` [layer, hidden] or [layer, pair, hidden], numbers; `layers` [layer], the layers that
         they are of (without it: every layer of the run); `pairs` [pair, 2], texts: own label and
         target label of each pair, which [layer, pair, hidden] needs

A file without pairs has one direction, towards one target label. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import ConfigError
from vsp.storage.npz import ArraysError, check_directory, damage_as_error, npy_header, read_arrays
from vsp.utils.reading import open_regular, unreadable

_MAX_BYTES = 1 << 32
Pairs = Sequence[tuple[str, str]]


def read_direction_file(
    path: Path, layers: Sequence[int], pairs: Pairs, n_layers: int, hidden: int, one_target: bool
) -> NDArray[np.float32]:
    """The directions [layer, pair, hidden] of a file, for these layers and pairs.

    `n_layers` and `hidden` are of the run. Raises ConfigError if the file cannot be read, has
    another shape, lacks a layer or a pair, has values that are not finite, or has no pairs while
    rows have several targets.
    """
    arrays = _read(path)
    vectors = arrays.get("vectors")
    if vectors is None:
        raise ConfigError(f"{path}: has no array `vectors`; it has {', '.join(arrays) or 'none'}")
    of_layers = _layers(path, arrays.get("layers"), n_layers)
    of_pairs = _pairs(path, arrays.get("pairs"))
    shape = (len(of_layers), *(() if of_pairs is None else (len(of_pairs),)), hidden)
    if vectors.shape != shape or vectors.dtype.kind not in "fiu":
        raise ConfigError(
            f"{path}: directions are {vectors.dtype} {list(vectors.shape)}; they must be numbers "
            f"{list(shape)}, [layer, {'' if of_pairs is None else 'pair, '}hidden]"
        )
    if not np.isfinite(vectors).all():
        raise ConfigError(f"{path}: has directions that are not finite; write others")
    if of_pairs is None and not one_target:
        raise ConfigError(
            f"{path}: has one direction for each layer and the rows have several targets; name "
            "the label that it leads to with --target"
        )
    chosen = vectors[[_place(path, "layer", of_layers, one) for one in layers]]
    if of_pairs is None:
        chosen = np.repeat(chosen[:, None], len(pairs), axis=1)
    else:
        chosen = chosen[:, [_place(path, "pair", of_pairs, one) for one in pairs]]
    with np.errstate(over="ignore"):
        found = chosen.astype(np.float32)
    if not np.isfinite(found).all():
        raise ConfigError(f"{path}: has values too large for float32; scale its directions down")
    return found


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with open_regular(path, _MAX_BYTES) as file:
            if path.suffix == ".npz":
                check_directory(file)
                return read_arrays(file)
            with damage_as_error():
                _, _, dtype = npy_header(file)
                if dtype.kind not in "fiu":
                    raise ArraysError(f"has dtype {str(dtype)[:40]!a}, not numbers")
                file.seek(0)
                return {"vectors": np.lib.format.read_array(file, allow_pickle=False)}
    except ArraysError as error:
        raise ConfigError(f"{path}: {error}; write it with numpy.save or numpy.savez") from None
    except OSError as error:
        raise ConfigError(f"{path}: {unreadable(error)}; name a file of directions") from None


def _layers(path: Path, stored: NDArray[Any] | None, n_layers: int) -> list[int]:
    if stored is None:
        return list(range(n_layers))
    if stored.ndim != 1 or stored.dtype.kind not in "iu" or len(set(stored.tolist())) < len(stored):
        raise ConfigError(f"{path}: `layers` must be different integers [layer]")
    layers: list[int] = stored.tolist()
    return layers


def _pairs(path: Path, stored: NDArray[Any] | None) -> list[tuple[str, str]] | None:
    if stored is None:
        return None
    if stored.ndim != 2 or stored.shape[1] != 2 or stored.dtype.kind != "U":
        raise ConfigError(f"{path}: `pairs` must be texts [pair, 2], own label and target label")
    return [(own, target) for own, target in stored.tolist()]


def _place(path: Path, what: str, known: Sequence[Any], wanted: Any) -> int:
    if wanted not in known:
        named = " → ".join(map(repr, wanted)) if isinstance(wanted, tuple) else wanted
        raise ConfigError(f"{path}: has no direction of {what} {named}; add it to the file")
    return list(known).index(wanted)
