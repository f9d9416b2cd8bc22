"""Changes of hidden states that an effects run computes with: directions that are added, and erasers.

`changes.npz` holds one of them, with a card as JSON and what else belongs to the run, such as the
targets. Random directions and subspaces are not in the file: they are drawn again from the seed.
Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.errors import RunError
from vsp.storage.npz import ArraysError, check_directory, read_arrays, write_arrays
from vsp.storage.random_changes import random_directions, random_number, random_subspace
from vsp.utils.files import sha256, write_aside
from vsp.utils.reading import open_regular, unreadable

FORMAT = 1  # of the card
NAME = "changes.npz"  # beside the plan of an effects run
_CARD = "card"
_MAX_BYTES = 1 << 33
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class FittedOn:
    """The rows of a run that a change was fitted on, and those that it is tested on."""

    run: str  # name of the run
    run_id: str  # identity of its plan
    position: str  # of the states
    split: str  # how rows were divided, in words
    fitted: NDArray[np.bool_]  # [row of the run]
    tested: NDArray[np.bool_]  # [row of the run]; no row is in both


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Directions that are added to states, from a row's own label towards its target.

    Each name has a direction for each layer and pair of labels. All directions of a layer and pair
    have the norm of that of "direction". A direction of zeros adds nothing; `notes` say where.
    """

    kind: str  # probe, mean-difference, or the name of a file
    fitted_on: FittedOn
    layers: tuple[int, ...]  # of the model
    names: tuple[str, ...]  # direction, then unrelated if there is one, then random-1, …
    pairs: tuple[tuple[str, str], ...]  # own label, target label
    vectors: NDArray[np.float32]  # [layer, name, pair, hidden]
    seed: int  # of the random directions
    unrelated: str  # what the unrelated label is; empty: there is none
    notes: tuple[str, ...] = ()

    def vector(self, layer: int, name: str, own: str, target: str) -> NDArray[np.float32]:
        """The direction [hidden]. Raises ValueError if there is no such layer, name or pair."""
        place = (
            self.layers.index(layer),
            self.names.index(name),
            self.pairs.index((own, target)),
        )
        found: NDArray[np.float32] = self.vectors[place]
        return found

    def target_of(self, label: str) -> str | None:
        """The target of rows with this label; None if it is the target of the others itself."""
        return next((target for own, target in self.pairs if own == label), None)

    def arrays(self) -> Arrays:
        """The arrays for `write_changes`, without the random directions."""
        kept = [k for k, name in enumerate(self.names) if random_number(name) is None]
        card = {
            "what": "directions",
            "kind": self.kind,
            "layers": self.layers,
            "names": self.names,
            "pairs": self.pairs,
            "seed": self.seed,
            "unrelated": self.unrelated,
            "notes": self.notes,
        }
        return {**_fitted_arrays(self.fitted_on, card), "vectors": self.vectors[:, kept]}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Directions:
        """The directions that these `arrays` are of.

        Raises ValueError, KeyError or TypeError if they are not what `arrays` gives.
        """
        fitted_on, card = _of_fitted_arrays(arrays, "directions")
        layers, names = _integers(card["layers"]), _texts(card["names"])
        pairs = tuple((str(own), str(target)) for own, target in card["pairs"])
        kept = [name for name in names if random_number(name) is None]
        stored = arrays["vectors"]
        _check(stored, (len(layers), len(kept), len(pairs), -1), np.float32, "vectors")
        vectors = with_random(stored, layers, names, int(card["seed"]))
        return cls(
            str(card["kind"]),
            fitted_on,
            layers,
            names,
            pairs,
            vectors,
            int(card["seed"]),
            str(card["unrelated"]),
            _texts(card["notes"]),
        )


def with_random(
    stored: NDArray[np.float32], layers: Sequence[int], names: Sequence[str], seed: int
) -> NDArray[np.float32]:
    """Directions [layer, name, pair, hidden] of all names, from those that are not random.

    The random ones are those of `random_directions` for the first stored name.
    """
    n_layers, _, n_pairs, hidden = stored.shape
    vectors = np.empty((n_layers, len(names), n_pairs, hidden), np.float32)
    kept = [name for name in names if random_number(name) is None]
    for k, name in enumerate(names):
        number = random_number(name)
        if number is None:
            vectors[:, k] = stored[:, kept.index(name)]
            continue
        for i, layer in enumerate(layers):
            vectors[i, k] = random_directions(stored[i, 0], seed, layer, number)
    return vectors


@dataclass(frozen=True, slots=True, eq=False)
class Eraser:
    """Takes a subspace out of states: x − (x − mean) @ right @ left."""

    mean: NDArray[np.floating]  # [hidden]
    right: NDArray[np.floating]  # [hidden, rank]
    left: NDArray[np.floating]  # [rank, hidden]

    @property
    def rank(self) -> int:
        return len(self.left)

    def apply(self, states: NDArray[np.floating]) -> NDArray[np.float64]:
        """`states` [row, hidden] without the subspace, in float64."""
        kept = states.astype(np.float64)
        kept -= ((kept - self.mean) @ self.right) @ self.left
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class Erasers:
    """An eraser for each name and layer. The random ones have the rank of the first in their layer."""

    kind: str  # leace, inlp or random
    fitted_on: FittedOn
    layers: tuple[int, ...]  # of the model
    names: tuple[str, ...]  # leace or inlp if it is one of these, then random-1, …
    mean: NDArray[np.float32]  # [layer, hidden], of the fitted rows
    right: Mapping[tuple[str, int], NDArray[np.float32]]  # name, layer → [hidden, rank]
    left: Mapping[tuple[str, int], NDArray[np.float32]]  # name, layer → [rank, hidden]
    seed: int  # of the random subspaces
    notes: tuple[str, ...] = ()

    def eraser(self, layer: int, name: str) -> Eraser:
        """Raises KeyError or ValueError if there is no such layer or name."""
        mean = self.mean[self.layers.index(layer)]
        return Eraser(mean, self.right[name, layer], self.left[name, layer])

    def rank(self, layer: int) -> int:
        """The rank of all erasers of a layer."""
        return len(self.left[self.names[0], layer])

    def arrays(self) -> Arrays:
        """The arrays for `write_changes`, without the random subspaces."""
        card = {
            "what": "erasers",
            "kind": self.kind,
            "layers": self.layers,
            "names": self.names,
            "ranks": [self.rank(layer) for layer in self.layers],
            "seed": self.seed,
            "notes": self.notes,
        }
        arrays = {**_fitted_arrays(self.fitted_on, card), "mean": self.mean}
        for name in self.names:
            if random_number(name) is None:
                for layer in self.layers:
                    arrays[f"right.{name}.{layer}"] = self.right[name, layer]
                    arrays[f"left.{name}.{layer}"] = self.left[name, layer]
        return arrays

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Erasers:
        """The erasers that these `arrays` are of.

        Raises ValueError, KeyError or TypeError if they are not what `arrays` gives.
        """
        fitted_on, card = _of_fitted_arrays(arrays, "erasers")
        layers, names, ranks = (
            _integers(card["layers"]),
            _texts(card["names"]),
            _integers(card["ranks"]),
        )
        mean, seed = arrays["mean"], int(card["seed"])
        _check(mean, (len(layers), -1), np.float32, "mean")
        right, left = {}, {}
        for name in names:
            for layer, rank in zip(layers, ranks, strict=True):
                sides = _sides(arrays, name, layer, (mean.shape[1], rank), seed)
                right[name, layer], left[name, layer] = sides
        kind, notes = str(card["kind"]), _texts(card["notes"])
        return cls(kind, fitted_on, layers, names, mean, right, left, seed, notes)


def random_sides(
    hidden: int, rank: int, seed: int, layer: int, number: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The right [hidden, rank] and left [rank, hidden] side of a random eraser."""
    basis = random_subspace(hidden, rank, seed, layer, number).astype(np.float32)
    return basis, np.ascontiguousarray(basis.T)


def _sides(
    arrays: Mapping[str, NDArray[Any]], name: str, layer: int, shape: tuple[int, int], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    number = random_number(name)
    if number is not None:
        if not 0 <= shape[1] <= shape[0]:
            raise ValueError(f"rank {shape[1]} of {shape[0]} dimensions")
        return random_sides(*shape, seed, layer, number)
    right, left = arrays[f"right.{name}.{layer}"], arrays[f"left.{name}.{layer}"]
    _check(right, shape, np.float32, f"right.{name}.{layer}")
    _check(left, shape[::-1], np.float32, f"left.{name}.{layer}")
    return right, left


def write_changes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write the arrays of directions or erasers, and others such as targets; returns the SHA-256.

    Equal arrays give equal bytes. Raises DiskError if the file cannot be written.
    """
    with write_aside(path) as file:
        write_arrays(file, arrays)
        file.flush()
        return sha256(file)


def read_changes(path: Path, digest: str) -> Arrays:
    """The arrays of a file of `write_changes`, whose SHA-256 is `digest`.

    Raises RunError if the file is missing, damaged, or another one.
    """
    again = "put back the file, or plan the run again"
    try:
        with open_regular(path, _MAX_BYTES) as file:
            check_directory(file)
            if sha256(file) != digest:
                raise RunError(f"{path}: is not the file that the plan goes with; {again}")
            return read_arrays(file)
    except ArraysError as error:
        raise RunError(f"{path}: {error}; {again}") from None
    except OSError as error:
        raise RunError(f"{path}: {unreadable(error)}; {again}") from None


def read_directions(path: Path, digest: str) -> Directions:
    """Raises RunError as `read_changes` does, or if the file holds no directions."""
    found: Directions = _read(path, digest, Directions)
    return found


def read_erasers(path: Path, digest: str) -> Erasers:
    """Raises RunError as `read_changes` does, or if the file holds no erasers."""
    found: Erasers = _read(path, digest, Erasers)
    return found


def _read(path: Path, digest: str, kind: type[Any]) -> Any:
    arrays = read_changes(path, digest)
    try:
        return kind.of_arrays(arrays)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RunError(
            f"{path}: does not hold {kind.__name__.lower()}; plan the run again"
        ) from None


def _fitted_arrays(fitted_on: FittedOn, card: Mapping[str, Any]) -> Arrays:
    texts = {key: getattr(fitted_on, key) for key in ("run", "run_id", "position", "split")}
    card_text = json.dumps({"format": FORMAT, **card, "fitted_on": texts}, sort_keys=True)
    return {
        _CARD: np.array(card_text),
        "fitted": fitted_on.fitted,
        "tested": fitted_on.tested,
    }


def _of_fitted_arrays(
    arrays: Mapping[str, NDArray[Any]], what: str
) -> tuple[FittedOn, dict[str, Any]]:
    card = json.loads(str(arrays[_CARD]))
    if card["format"] != FORMAT or card["what"] != what:
        raise ValueError(f"format {card['format']!r} of {card['what']!r}")
    fitted, tested = arrays["fitted"], arrays["tested"]
    _check(fitted, (-1,), np.bool_, "fitted")
    _check(tested, fitted.shape, np.bool_, "tested")
    if (fitted & tested).any():
        raise ValueError("a row is both fitted and tested")
    texts = {key: str(value) for key, value in card["fitted_on"].items()}
    return FittedOn(**texts, fitted=fitted, tested=tested), card


def _check(array: NDArray[Any], shape: tuple[int, ...], dtype: Any, name: str) -> None:
    """Raise ValueError unless the array has this shape (-1: any), this dtype and finite values."""
    fits = len(array.shape) == len(shape) and all(
        wanted in (-1, n) for wanted, n in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.dtype(dtype):
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TypeError("not a list of texts")
    return tuple(values)


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(one) is int for one in values):
        raise TypeError("not a list of integers")
    return tuple(values)
