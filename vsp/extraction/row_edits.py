"""The edits of an effects run: which tokens of a row a setting changes at a layer, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vsp.choices import LAST
from vsp.errors import InputError, RunError
from vsp.models.contract import Picture, TokenizedPrompt
from vsp.models.edits import Add, Change, Copy, Project
from vsp.storage.changes import Directions, Erasers, read_directions, read_erasers
from vsp.storage.effects import CHANGES, Effects
from vsp.storage.run import Run

ALL_TOKENS, BOX = "all", "box"  # names of tokens that only a patch has
_BOXES = ("subject-box", "reference-box")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row with its picture, ready for the model."""

    picture: Picture
    row: TokenizedPrompt


@dataclass(frozen=True, slots=True)
class EditedRow:
    """A row of an effects run and, for a patch, its paired row."""

    number: int  # of the run
    label: str
    prompt: Prompt
    donor: Prompt | None = None


class Changes(Protocol):
    """The changes of an effects run, one for each layer and setting."""

    def change(self, row: EditedRow, layer: int, setting: int, donor_row: int) -> Change:
        """The change of a setting at the layer with this index; `donor_row` is one of the batch."""
        ...


def read_changes_of(run: Run) -> Changes:
    """The changes of an effects run. Raises RunError if they are not those of its plan."""
    effects = run.of_effects()
    path, digest = run.folder / CHANGES, effects.changes_sha256
    if effects.kind == "patch":
        run.changes(())  # raises if the file was changed
        return _Patch(effects)
    if effects.kind == "erase":
        erasers = read_erasers(path, digest)
        _check_has(run, effects, erasers.layers, erasers.names)
        return _Erasure(effects, erasers)
    directions = read_directions(path, digest)
    _check_has(run, effects, directions.layers, directions.names)
    return _Steering(effects, directions)


def _check_has(run: Run, effects: Effects, layers: Sequence[int], names: Sequence[str]) -> None:
    wanted = {one.name for one in effects.settings[1:]}
    if set(effects.layers) - set(layers) or wanted - set(names):
        raise RunError(
            f"{run.folder / CHANGES}: lacks layers or settings of the plan; plan the run again"
        )


@dataclass(frozen=True, slots=True)
class _Steering:
    effects: Effects
    directions: Directions

    def change(self, row: EditedRow, layer: int, setting: int, donor_row: int) -> Change:
        chosen, target = self.effects.settings[setting], self.directions.target_of(row.label)
        if target is None:
            raise InputError(f"label {row.label!r} has no target")
        at = self.effects.layers[layer]
        vector = self.directions.vector(at, chosen.name, row.label, target)
        return Add(vector * vector.dtype.type(chosen.scale))


@dataclass(frozen=True, slots=True)
class _Erasure:
    effects: Effects
    erasers: Erasers

    def change(self, row: EditedRow, layer: int, setting: int, donor_row: int) -> Change:
        name = self.effects.settings[setting].name
        eraser = self.erasers.eraser(self.effects.layers[layer], name)
        return Project(eraser.mean, eraser.right, eraser.left)


@dataclass(frozen=True, slots=True)
class _Patch:
    effects: Effects

    def change(self, row: EditedRow, layer: int, setting: int, donor_row: int) -> Change:
        name = self.effects.settings[setting].name
        if row.donor is None:
            raise InputError("it has no paired row")
        return Copy(donor_row, tokens_of(row.donor, name))


def changed_tokens(row: EditedRow, name: str) -> tuple[int, ...]:
    """Indices of the tokens of that name in a row.

    Raises InputError if the row has none, or another number of them than its paired row.
    """
    tokens = tokens_of(row.prompt, name)
    if row.donor is not None:
        others = tokens_of(row.donor, name)
        if len(others) != len(tokens):
            raise InputError(
                f"tokens {name}: the paired row has {len(others)}, the row has {len(tokens)}"
            )
    return tokens


def tokens_of(prompt: Prompt, name: str) -> tuple[int, ...]:
    """Indices of the tokens of that name in a prompt. Raises InputError if it has none."""
    n_tokens, places = len(prompt.row.tokens), prompt.row.places
    if name == LAST:
        return (n_tokens - 1,)
    if name == ALL_TOKENS:
        return tuple(range(n_tokens))
    if name == BOX:
        boxes = {token for one in _BOXES for token in places.get(one, ())}
        if not boxes:
            raise InputError("tokens box: the row has no image token in a box of an object")
        return tuple(sorted(boxes))
    if name not in places:
        raise InputError(f"tokens {name}: the row has none")
    return places[name]
