"""The training pictures, and the questions that can be asked about each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import delayed
from PIL import Image

from vsp.datasets.relations import INVERSE, ON_AXIS
from vsp.datasets.synthetic.color import ColorConfig, ColorWorld
from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Scene, Shape, draw_scene
from vsp.datasets.synthetic.spatial import SpatialConfig, SpatialWorld
from vsp.utils.progress import progress
from vsp.utils.workers import worker_pool

CANVAS = 448  # side of a picture as it is drawn, pixels
SEEDS_FROM = 7_000_000  # other random streams than those of datasets with small seeds
GREY_SHARE = 0.03
SPATIAL_SHARE = 0.64
CROWDED_SHARE = 0.15  # of the spatial pictures: with one or two distractors
_CHUNK = 500  # pictures drawn by one call of a process


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer. `names` are the words that stand for `shapes` in its text."""

    task: str  # spatial or color
    names: tuple[str, ...]
    label: str
    shapes: tuple[Shape, ...] = ()  # empty for a grey picture


@dataclass(frozen=True, slots=True)
class TrainingScene:
    """Shapes and questions of a training picture. A grey picture has no shapes and random answers."""

    shapes: tuple[Shape, ...]
    questions: tuple[Question, ...]

    @property
    def hard(self) -> bool:
        """True if there are three shapes or more, or two of one kind."""
        kinds = [shape.kind for shape in self.shapes]
        return len(kinds) > 2 or len(set(kinds)) < len(kinds)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Pictures as `pixels` [picture, height, width, 3], uint8, and what is in them."""

    pixels: np.ndarray
    scenes: Sequence[TrainingScene]
    hard: np.ndarray  # [picture], bool


def make_training_set(n: int, side: int, seed: int, n_jobs: int) -> TrainingSet:
    """Draw `n` pictures of `side` pixels. Picture i depends on the seed and i only."""
    starts = range(0, n, _CHUNK)
    calls = (delayed(_draw)(start, min(start + _CHUNK, n), side, seed) for start in starts)
    pixels = np.empty((n, side, side, 3), np.uint8)
    scenes: list[TrainingScene] = []
    with (
        progress("drawing", "pictures", n) as advance,
        worker_pool(n_jobs, "generator") as pool,
    ):
        for part, drawn in pool(calls):
            pixels[len(scenes) : len(scenes) + len(part)] = part
            scenes += drawn
            advance(len(part))
    return TrainingSet(pixels, scenes, np.array([scene.hard for scene in scenes]))


def training_scenes(start: int, stop: int, seed: int) -> Iterator[TrainingScene]:
    """The scenes of the pictures `start` to `stop` - 1."""
    for i in range(start, stop):
        yield _scene(np.random.default_rng([SEEDS_FROM + seed, i]))


def _draw(start: int, stop: int, side: int, seed: int) -> tuple[np.ndarray, list[TrainingScene]]:
    scenes = list(training_scenes(start, stop, seed))
    return np.stack([_picture(scene, side) for scene in scenes]), scenes


def _picture(scene: TrainingScene, side: int) -> np.ndarray:
    """The picture [side, side, 3], drawn at the size of the datasets and then made smaller."""
    if not scene.shapes:
        return np.full((side, side, 3), 128, np.uint8)
    large = draw_scene(Scene(scene.shapes), (CANVAS, CANVAS)).convert("RGB")
    return np.asarray(large.resize((side, side), Image.Resampling.BICUBIC))


def _scene(rng: np.random.Generator) -> TrainingScene:
    kind = rng.random()
    if kind < GREY_SHARE:
        return TrainingScene((), _random_questions(rng))
    if kind < GREY_SHARE + SPATIAL_SHARE:
        return _spatial_scene(rng)
    return _color_scene(rng)


def _spatial_scene(rng: np.random.Generator) -> TrainingScene:
    distractors = (1, 2) if rng.random() < CROWDED_SHARE else (0, 0)
    config = SpatialConfig(task="spatial", n_samples=1, seed=0, output="-", distractors=distractors)
    label = list(ON_AXIS)[int(rng.integers(len(ON_AXIS)))]
    scene = SpatialWorld(config).scene(label, rng)
    a, b = (_shape_of(scene, role) for role in ("subject", "reference"))
    both = (_name(a), _name(b))
    questions = (
        Question("spatial", both, label, (a, b)),
        Question("spatial", both[::-1], INVERSE[label], (b, a)),
    )
    return TrainingScene(scene.shapes, questions + _color_questions(scene.shapes))


def _color_scene(rng: np.random.Generator) -> TrainingScene:
    world = ColorWorld(ColorConfig(task="color", n_samples=1, seed=0, output="-"))
    shapes = world.scene(list(COLORS)[int(rng.integers(len(COLORS)))], rng).shapes
    return TrainingScene(shapes, _color_questions(shapes))


def _color_questions(shapes: Sequence[Shape]) -> tuple[Question, ...]:
    """One for each shape whose kind occurs once."""
    kinds = [shape.kind for shape in shapes]
    return tuple(
        Question("color", (shape.kind,), shape.color, (shape,))
        for shape in shapes
        if kinds.count(shape.kind) == 1
    )


def _random_questions(rng: np.random.Generator) -> tuple[Question, ...]:
    """Two of each task with random answers, so that a picture without shapes gets a label."""

    def one_of(values: Sequence[str]) -> str:
        return values[int(rng.integers(len(values)))]

    def name() -> str:
        return f"{one_of(list(COLORS))} {one_of(SHAPES)}"

    relations = [Question("spatial", (name(), name()), one_of(list(ON_AXIS))) for _ in range(2)]
    colors = [Question("color", (one_of(SHAPES),), one_of(list(COLORS))) for _ in range(2)]
    return (*relations, *colors)


def _name(shape: Shape) -> str:
    return f"{shape.color} {shape.kind}"


def _shape_of(scene: Scene, role: str) -> Shape:
    """The scene's shape that the record describes as subject or reference."""
    name = (scene.record[f"{role}_shape"], scene.record[f"{role}_color"])
    return next(shape for shape in scene.shapes if (shape.kind, shape.color) == name)
