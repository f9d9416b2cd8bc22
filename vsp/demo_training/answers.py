"""Later stages: projector and decoder learn to answer; the tower stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vsp.demo_training.learner import PLACE_LAYER, Learner, color_numbers, fast_products, places
from vsp.demo_training.packing import NO_TARGET, Encoder, Pack, pack, packed_mask
from vsp.demo_training.scenes import Question, TrainingSet

N_IMAGES = 16  # a step
_MOST_QUESTIONS = 4  # behind one image
_MOST_LONG_QUESTIONS = 2  # of the instruction style


@dataclass(frozen=True, slots=True)
class Lesson:
    """Prompt styles, pictures and weights of the losses in the steps of a stage."""

    styles: Mapping[str, float]  # style of the prompt → probability
    hard: float  # how many times as often hard pictures are drawn
    place: float  # weight of the loss of places
    color: float  # weight of the loss of colours
    every_word: bool  # whether places are read at both words of a name, or at the last


def answer_loss(
    learner: Learner, encoder: Encoder, data: TrainingSet, lesson: Lesson, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one step, and the share of right answers of each task."""
    weights = np.where(data.hard, lesson.hard, 1.0)
    chosen = rng.choice(len(weights), size=N_IMAGES, p=weights / weights.sum())
    style = str(rng.choice(list(lesson.styles), p=list(lesson.styles.values())))
    rows = [_choose(data.scenes[i].questions, style, rng) for i in chosen]
    packed = pack(rows, style, encoder, every_word=lesson.every_word)

    with torch.no_grad():
        patches = learner.patches(data.pixels[chosen])
    states, at_words = _forward(learner, encoder, patches, packed)
    asked = packed.target != NO_TARGET
    scores = learner.llava.lm_head(states[asked])
    loss = functional.cross_entropy(scores, packed.target[asked])
    loss = loss + lesson.place * _place_loss(learner, at_words, packed)
    if lesson.color and packed.colors:
        loss = loss + lesson.color * _color_loss(learner, at_words, packed)
    return loss, _share_right(rows, packed, asked, scores.argmax(-1))


def _choose(
    questions: Sequence[Question], style: str, rng: np.random.Generator
) -> Sequence[Question]:
    """As many questions as a row takes, half of them about the relation if there are such."""
    most = _MOST_LONG_QUESTIONS if style == "instruction" else _MOST_QUESTIONS
    shuffled = [questions[i] for i in rng.permutation(len(questions))]
    spatial = [question for question in shuffled if question.task == "spatial"]
    others = [question for question in shuffled if question.task != "spatial"]
    return (spatial[: most // 2] + others + spatial[most // 2 :])[:most]


def _forward(
    learner: Learner, encoder: Encoder, patches: Tensor, packed: Pack
) -> tuple[Tensor, Tensor]:
    """States [image, position, hidden] that predict each token of the pack, and those at its tokens.

    The first are from the last layer, one position earlier; the second from PLACE_LAYER, scaled to
    a root mean square of 1.
    """
    inner = learner.llava.model
    embed = inner.get_input_embeddings()
    n_images = len(patches)
    before = embed(torch.tensor(encoder.before_image)).expand(n_images, -1, -1)
    image = inner.multi_modal_projector(patches)
    inputs = torch.cat([before, image, embed(packed.tokens)], dim=1)
    n_shared = before.shape[1] + image.shape[1]
    shared = torch.zeros(n_images, n_shared, dtype=torch.long)
    with fast_products():
        output = inner.language_model(
            inputs_embeds=inputs,
            attention_mask=packed_mask(torch.cat([shared, packed.branch], dim=1)),
            position_ids=torch.cat(
                [shared + torch.arange(n_shared), n_shared + packed.position], dim=1
            ),
            output_hidden_states=True,
            use_cache=False,
        )
    at_words = output.hidden_states[PLACE_LAYER][:, n_shared:].float()
    predicting = output.last_hidden_state[:, n_shared - 1 : -1].float()
    return predicting, functional.rms_norm(at_words, at_words.shape[-1:])


def _place_loss(learner: Learner, at_words: Tensor, packed: Pack) -> Tensor:
    """Mean distance of the places read at words that name a shape; 0 if there are none."""
    if not packed.words:
        return torch.zeros(())
    images, positions, shapes = map(list, zip(*packed.words, strict=True))
    return functional.l1_loss(learner.place_head(at_words[images, positions]), places(shapes))


def _color_loss(learner: Learner, at_words: Tensor, packed: Pack) -> Tensor:
    images, positions, shapes = map(list, zip(*packed.colors, strict=True))
    scores = learner.color_head(at_words[images, positions])
    return functional.cross_entropy(scores, color_numbers(shapes))


def _share_right(
    rows: Sequence[Sequence[Question]], packed: Pack, asked: Tensor, predicted: Tensor
) -> dict[str, float]:
    """Share of the questions of each task whose answer is right to the last token."""
    image, _ = asked.nonzero(as_tuple=True)
    wrong = predicted != packed.target[asked]
    missed = set(zip(image[wrong].tolist(), packed.branch[asked][wrong].tolist(), strict=True))
    found: dict[str, list[bool]] = {}
    for i, row in enumerate(rows):
        for number, question in enumerate(row, start=1):
            if question.shapes:
                found.setdefault(question.task, []).append((i, number) not in missed)
    return {task: float(np.mean(right)) for task, right in found.items()}
