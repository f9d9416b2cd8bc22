"""Runs the stages one after another; an interrupted training continues where it was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn
from torch.optim import AdamW

from vsp.cli.output import print_line
from vsp.demo_checkpoint import make_tokenizer, save_checkpoint
from vsp.demo_training.curriculum import Recipe, Stage, stages
from vsp.demo_training.learner import SIZE, Learner
from vsp.demo_training.packing import Encoder
from vsp.demo_training.scenes import make_training_set
from vsp.demo_training.state import (
    FILE,
    Moments,
    Position,
    read_state,
    restore_moments,
    write_state,
)
from vsp.errors import RunError
from vsp.utils.files import write_json
from vsp.utils.progress import progress

_RATE = 2e-3  # the largest learning rate
_EVERY = 100  # steps between two states on disk


def train(folder: Path, recipe: Recipe, n_jobs: int) -> None:
    """Train a small LLaVA and write it to `folder` in `save_pretrained` layout, in float16.

    The examples of a step follow from the seed, the stage and the step. Therefore a training that
    was interrupted gives the same weights as one that was not. Raises RunError if the folder has a
    finished checkpoint, or the state of a training with another recipe.
    """
    if (folder / "config.json").exists() and not (folder / FILE).exists():
        raise RunError(f"{folder}: has a checkpoint already; give another folder")
    torch.set_num_threads(1)  # the order of sums depends on the number of threads
    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer()
    learner = Learner(tokenizer)
    position, moments = read_state(folder / FILE, recipe, learner)
    data = make_training_set(recipe.n_pictures, SIZE.image, recipe.seed, n_jobs)
    for number, stage in enumerate(stages(recipe, learner, Encoder(tokenizer), data)):
        if number == position.stage:
            position = _run(stage, position, moments, recipe, learner, folder / FILE)
            moments = {}
        stage.modules.requires_grad_(False)  # the decoder's two stages train the same modules
    learner.llava.config.dtype = torch.float16
    save_checkpoint(folder, learner.llava.eval().half(), tokenizer)
    write_json(folder / "training.json", _summary(recipe, position))
    (folder / FILE).unlink()  # last: while it exists, the checkpoint is not finished


def _run(
    stage: Stage, start: Position, moments: Moments, recipe: Recipe, learner: Learner, file: Path
) -> Position:
    """Run the rest of a stage, write states, and return the beginning of the next stage."""
    stage.modules.requires_grad_(True)
    parameters = list(stage.modules.parameters())
    optimizer = AdamW(parameters, lr=_RATE, betas=(0.9, 0.95), weight_decay=0.05)
    restore_moments(optimizer, moments)
    before = start.seconds - time.process_time()
    if start.step:
        print_line(f"{stage.name}: continuing after step {start.step} of {stage.n_steps}")
    position, recent = start, []
    with progress(f"training, {stage.name}", "steps", stage.n_steps - start.step) as advance:
        for step in range(start.step, stage.n_steps):
            recent.append(_step(stage, step, start.stage, recipe, parameters, optimizer))
            advance(1)
            done = step + 1
            if done % _EVERY and done < stage.n_steps:
                continue
            right = _mean(recent)
            print_line(_line(stage, done, right))
            entry = {"stage": stage.name, "step": done, "right": right}
            position = replace(
                position,
                step=done,
                seconds=before + time.process_time(),
                history=(*position.history, entry),
            )
            if done < stage.n_steps:
                write_state(file, recipe, position, learner, optimizer.state_dict()["state"])
            recent = []
    position = replace(position, stage=start.stage + 1, step=0)
    write_state(file, recipe, position, learner, {})
    return position


def _step(
    stage: Stage,
    step: int,
    number: int,
    recipe: Recipe,
    parameters: list[nn.Parameter],
    optimizer: AdamW,
) -> Mapping[str, float]:
    """One step of the optimizer; the shares of right answers before it."""
    for group in optimizer.param_groups:
        group["lr"] = _RATE * stage.rate(step)
    loss, right = stage.loss(step, np.random.default_rng([recipe.seed, number, step]))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return right


def _mean(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each share over the steps that have it."""
    names = sorted({name for step in steps for name in step})
    return {name: float(np.mean([s[name] for s in steps if name in s])) for name in names}


def _line(stage: Stage, done: int, right: Mapping[str, float]) -> str:
    shares = ", ".join(f"{name} {share:.3f}" for name, share in right.items())
    return f"{stage.name} {done}/{stage.n_steps}: right {shares}"


def _summary(recipe: Recipe, position: Position) -> dict[str, object]:
    """What `training.json` holds."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {
        "recipe": asdict(recipe),
        "cpu_seconds": round(position.seconds),
        "versions": versions,
        "history": position.history,
    }
