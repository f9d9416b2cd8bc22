"""The stages of the training, in their order.

1. `tower`: the vision tower alone, with a head that tells what is at each patch.
2. `relation`: projector and decoder, with short prompts. A head on the decoder's third state reads
   the place of a shape at the last word of its name; without it the relation is not learned.
3. `words`: places are read at every word of a name, and colours at its last; hard pictures are
   frequent. Shapes of one kind are told apart here. Then all four styles of prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi

import numpy as np
from torch import Tensor, nn

from vsp.demo_training.answers import Lesson, answer_loss
from vsp.demo_training.learner import Learner
from vsp.demo_training.packing import Encoder
from vsp.demo_training.scenes import TrainingSet
from vsp.demo_training.tower import tower_loss

SHORT = {"statement": 0.5, "question": 0.5}
ALL = {"statement": 0.2, "cloze": 0.2, "question": 0.2, "instruction": 0.4}
RELATION = Lesson(SHORT, hard=1, place=1, color=0, every_word=False)
NAMES = Lesson(SHORT, hard=5, place=2, color=0.2, every_word=True)
STYLES = Lesson(ALL, hard=3, place=1, color=0.2, every_word=True)

Loss = Callable[[int, np.random.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The options of a training: equal recipes give equal weights on one kind of processor."""

    seed: int = 0
    n_pictures: int = 40_000
    tower_steps: int = 2_600
    relation_steps: int = 800
    name_steps: int = 300
    style_steps: int = 1_700


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps with one optimiser. `loss(step, rng)` also gives shares of right answers."""

    name: str
    n_steps: int
    modules: nn.ModuleList
    loss: Loss
    warm_up: int  # steps
    least: float  # learning rate at the end, as a share of the largest

    def rate(self, step: int) -> float:
        """Share of the largest learning rate: a linear rise, then a cosine."""
        rise = min((step + 1) / self.warm_up, 1)
        return rise * (self.least + (1 - self.least) * (1 + cos(pi * step / self.n_steps)) / 2)


def stages(
    recipe: Recipe, learner: Learner, encoder: Encoder, data: TrainingSet
) -> Iterator[Stage]:
    """The three stages. Each begins with the weights that the one before it has left."""

    def answers(lesson_of: Callable[[int], Lesson]) -> Loss:
        return lambda step, rng: answer_loss(learner, encoder, data, lesson_of(step), rng)

    inner = learner.llava.model
    tower = nn.ModuleList([inner.vision_tower, learner.patch_head])
    decoder = nn.ModuleList([inner.multi_modal_projector, inner.language_model,
                             learner.llava.lm_head, learner.place_head,
                             learner.color_head])  # fmt: skip
    yield Stage("tower", recipe.tower_steps, tower,
                lambda _, rng: tower_loss(learner, data, rng), 100, 0.02)  # fmt: skip
    yield Stage("relation", recipe.relation_steps, decoder, answers(lambda _: RELATION), 100, 0.02)
    n_steps = recipe.name_steps + recipe.style_steps
    yield Stage("words", n_steps, decoder,
                answers(lambda step: NAMES if step < recipe.name_steps else STYLES),
                50, 0.03)  # fmt: skip
