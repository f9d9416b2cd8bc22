"""The state of an unfinished training, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from vsp.demo_training.curriculum import Recipe
from vsp.demo_training.learner import Learner
from vsp.errors import RunError
from vsp.utils.files import write_aside

FILE = "training.safetensors"

Moments = dict[int, dict[str, Tensor]]  # number of the parameter → AdamW's averages and count


@dataclass(frozen=True, slots=True)
class Position:
    """How far a training has come."""

    stage: int = 0
    step: int = 0  # steps of this stage that are done
    seconds: float = 0.0  # CPU time so far
    history: tuple[Mapping[str, Any], ...] = ()  # shares of right answers


def write_state(
    path: Path, recipe: Recipe, position: Position, learner: Learner, moments: Moments
) -> None:
    """Write weights, averages of the optimizer (none at the beginning of a stage), and position."""
    tensors = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    for number, values in moments.items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
    metadata = {
        "recipe": json.dumps(asdict(recipe)),
        "position": json.dumps(asdict(position)),
    }
    with write_aside(path) as file:
        file.write(save(tensors, metadata))


def read_state(path: Path, recipe: Recipe, learner: Learner) -> tuple[Position, Moments]:
    """Load the weights into `learner`; without a file, change nothing and begin at the beginning.

    Raises RunError if the file is damaged or belongs to another recipe.
    """
    if not path.exists():
        return Position(), {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it to begin again") from None
    if not {"recipe", "position"} <= metadata.keys():
        raise RunError(f"{path}: is not the state of a training; move it or use another folder")
    if json.loads(metadata["recipe"]) != asdict(recipe):
        raise RunError(
            f"{path}: belongs to a training with other options, {metadata['recipe']}; "
            "give these options, delete the file, or use another folder"
        )
    weights, moments = {}, Moments()
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "learner":
            weights[rest] = value
        else:
            number, _, what = rest.partition(".")
            moments.setdefault(int(number), {})[what] = value
    learner.load_state_dict(weights)
    return Position(**json.loads(metadata["position"])), moments


def restore_moments(optimizer: Optimizer, moments: Moments) -> None:
    """Give the optimizer the averages that a state file had."""
    if moments:
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
