"""The labels of the worlds agree with the pixels, and nothing else predicts them."""

from math import hypot

import numpy as np
import pytest
from helpers.paths import ROOT
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from vsp.datasets import WORLDS
from vsp.datasets.synthetic.generate import read_config
from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Scene, draw_scene

SIDE = 448
N_SEEN, N_GUESSED = 80, 2000
INK = {color: 1 + i for i, color in enumerate(COLORS)}


def _scenes(task, n, **changes):
    config = read_config(ROOT / f"configs/{task}_dataset.yaml").model_copy(update=changes)
    world = WORLDS.load(task)(config)
    labels = np.random.default_rng(9).permutation(np.resize(world.labels, n)).tolist()
    return [
        (label, world.scene(label, np.random.default_rng([8, i]))) for i, label in enumerate(labels)
    ]


def _pixels(scene):
    return np.asarray(draw_scene(scene, (SIDE, SIDE)))


def _mask(scene, part):
    """The pixels in the part's box that have its colour."""
    left, top, right, bottom = scene.record[f"{part}_box"]
    mask = np.zeros((SIDE, SIDE), bool)
    seen = _pixels(scene)[top:bottom, left:right]
    mask[top:bottom, left:right] = seen == INK[scene.record[f"{part}_color"]]
    return mask


def _centre(mask):
    y, x = np.nonzero(mask)
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2


# Each function reads a label from the pixels, and fails if the label is ambiguous.


def _see_depth(scene, cues):
    subject, reference = _mask(scene, "subject"), _mask(scene, "reference")
    whole = {}
    for part in ("subject", "reference"):
        (shape,) = [
            s for s in scene.shapes
            if (s.kind, s.color) == (scene.record[f"{part}_shape"], scene.record[f"{part}_color"])
        ]  # fmt: skip
        whole[part] = _pixels(Scene((shape,))) > 0
    common = whole["subject"] & whole["reference"]
    seen = set()
    if "occlusion" in cues:
        assert 0.19 < common.sum() / min(mask.sum() for mask in whole.values()) < 0.61
        assert subject[common].all() != reference[common].all()
        seen.add("in_front_of" if subject[common].all() else "behind")
    else:
        assert not common.any()
    if "size" in cues:
        ratio = whole["subject"].sum() / whole["reference"].sum()
        assert not 1 / 1.5 < ratio < 1.5
        seen.add("in_front_of" if ratio > 1 else "behind")
    (label,) = seen
    return label


def _see_distance(scene):
    apart = np.subtract(_centre(_mask(scene, "subject")), _centre(_mask(scene, "reference")))
    share = hypot(*apart) / SIDE
    assert not 0.28 < share < 0.48
    return "near" if share < 0.28 else "far"


def _see_inside(scene):
    subject, reference = _mask(scene, "subject"), _mask(scene, "reference")
    parts, _ = ndimage.label(reference)  # shapes inside it may have its colour
    reference = parts == np.bincount(parts[parts > 0]).argmax()
    filled = ndimage.binary_fill_holes(reference)
    room = filled & ~ndimage.binary_dilation(reference, iterations=2)
    assert (room & subject).any() == (room[subject]).all()
    assert room.sum() > 4 * subject.sum()
    return "inside" if (room & subject).any() else "outside"


def _see_between(scene):
    at, one, other = (
        np.array(_centre(_mask(scene, part))) for part in ("subject", "reference", "second")
    )
    row = other - one
    along = (at - one) @ row / (row @ row)
    across = abs(np.cross(np.append(row, 0), np.append(at - one, 0))[2]) / hypot(*row)
    yes, no = 0.2 < along < 0.8, not -0.25 < along < 1.25
    # The subject is close to the line through the references.
    assert yes != no and across / SIDE < (0.04 if yes else 0.12)
    return "yes" if yes else "no"


def _see_counting(scene):
    parts, n = ndimage.label(_pixels(scene) > 0, structure=np.ones((3, 3)))
    assert n == len(scene.shapes)  # no two shapes touch
    # Each kind fills another share of its box.
    fills = {"star": 0.33, "triangle": 0.5, "pentagon": 0.69, "circle": 0.785, "square": 1.0}
    kinds = []
    for i, place in enumerate(ndimage.find_objects(parts), start=1):
        filled = (parts[place] == i).mean()
        kinds.append(min(fills, key=lambda kind: abs(fills[kind] - filled)))
    assert len(scene.record["subject_boxes"]) == int(kinds.count(scene.record["subject_shape"]))
    return str(kinds.count(scene.record["subject_shape"]))


def _see_size(scene):
    ratio = _mask(scene, "subject").sum() / _mask(scene, "reference").sum()
    assert not 1 / 1.4 < ratio < 1.4
    assert scene.record["subject_shape"] == scene.record["reference_shape"]
    return "larger" if ratio > 1 else "smaller"


def _see_spatial(scene):
    across, down = np.subtract(_centre(_mask(scene, "subject")), _centre(_mask(scene, "reference")))
    assert abs(abs(across) - abs(down)) > 15
    if abs(across) > abs(down):
        return "left_of" if across < 0 else "right_of"
    return "above" if down < 0 else "below"


SEEN = {
    "distance": _see_distance,
    "inside": _see_inside,
    "between": _see_between,
    "counting": _see_counting,
    "size": _see_size,
    "spatial": _see_spatial,
}


@pytest.mark.parametrize("task", SEEN)
def test_the_pixels_show_the_label(task):
    crowd = {} if task == "counting" else {"distractors": (0, 5)}
    for label, scene in _scenes(task, N_SEEN, **crowd):
        assert SEEN[task](scene) == label == scene.record.get("label", label)


@pytest.mark.parametrize("cues", [("occlusion",), ("size",), ("occlusion", "size")])
def test_the_pixels_show_what_is_in_front_by_each_cue(cues):
    for label, scene in _scenes("depth", N_SEEN, cues=cues):
        assert _see_depth(scene, cues) == label == scene.record["label"]


# Features that must not predict the label.


def _look(shape):
    kinds = [shape.kind == kind for kind in SHAPES]
    return [*kinds, *(shape.color == color for color in COLORS), shape.size]


def _place(shape):
    x, y = shape.x / SIDE - 0.5, shape.y / SIDE - 0.5
    return [x, y, x * x, y * y, x * y, hypot(x, y)]


def _find(scene, part):
    look = (scene.record[f"{part}_shape"], scene.record[f"{part}_color"])
    return next(s for s in scene.shapes if (s.kind, s.color) == look)


def _accuracy(scenes, features):
    """The accuracy of the better of a linear model and a decision tree, over three folds."""
    X = np.array([features(scene) for _, scene in scenes], float)
    y = np.array([label for label, _ in scenes])
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=20, random_state=0)
    return max(cross_val_score(model, X, y, cv=3).mean() for model in (linear, tree))


def _chance(scenes):
    """A limit for accuracy by chance: four standard errors over the chance level."""
    chance = 1 / len({label for label, _ in scenes})
    return chance + 4 * (chance * (1 - chance) / len(scenes)) ** 0.5


def _one(part):
    return lambda scene: [*_look(_find(scene, part)), *_place(_find(scene, part))]


def _others(scene):
    """Number, sizes and places of the distractors."""
    named = [_find(scene, part) for part in ("subject", "reference")]
    rest = [shape for shape in scene.shapes if shape not in named and not shape.line]
    middle = np.mean([_place(shape) for shape in rest] or [[0.0] * 6], axis=0)
    return [len(rest), sum(shape.size for shape in rest), *middle]


# Sizes are a cue in `size`, and in `depth` with the cue `size`; these have a test of their own.
@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("depth", {"cues": ("occlusion",)}),
        ("distance", {}),
        ("inside", {}),
        ("between", {}),
        ("spatial", {"distractors": (0, 6)}),
    ],
)
def test_neither_subject_nor_reference_nor_the_others_tell_the_label(task, changes):
    scenes = _scenes(task, N_GUESSED, **changes)
    parts = ["subject", "reference", *(["second"] if task == "between" else [])]
    if task == "spatial":  # the place of one shape limits the place of the other
        looks = [lambda scene, part=part: _look(_find(scene, part)) for part in parts]
    else:
        looks = [_one(part) for part in parts]
    for features in (*looks, _others):
        assert _accuracy(scenes, features) < _chance(scenes)
    assert (
        _accuracy(scenes, lambda scene: [_answer(task, scene)]) > 0.99
    )  # the feature that does predict it


def _answer(task, scene):
    subject, reference = _find(scene, "subject"), _find(scene, "reference")
    apart = (subject.x - reference.x, subject.y - reference.y)
    if task == "depth":
        return scene.shapes.index(subject) > scene.shapes.index(reference)
    if task == "between":
        second = _find(scene, "second")
        return apart[0] * (subject.x - second.x) + apart[1] * (subject.y - second.y)
    if task == "spatial":
        return int(np.round(np.degrees(np.arctan2(*apart)) / 90)) % 4
    return hypot(*apart)


def test_with_a_pair_of_places_between_is_still_not_told():
    """The places of the subject and one reference are equally likely for both labels."""
    scenes = _scenes("between", N_GUESSED)
    for part in ("reference", "second"):
        pair = lambda scene, part=part: [  # noqa: E731
            *(a - b for a, b in zip(_place(_find(scene, "subject")), _place(_find(scene, part)), strict=True)),
            hypot(_find(scene, "subject").x - _find(scene, part).x, _find(scene, "subject").y - _find(scene, part).y),
        ]  # fmt: skip
        assert _accuracy(scenes, pair) < _chance(scenes)


@pytest.mark.parametrize("task", ["size", "depth"])
def test_one_size_alone_says_little_of_which_is_larger(task):
    scenes = _scenes(task, N_GUESSED)
    for part in ("subject", "reference"):
        assert _accuracy(scenes, lambda scene, part=part: [_find(scene, part).size]) < 0.75
        without = lambda scene, part=part: _look(_find(scene, part))[:-1]  # noqa: E731
        assert _accuracy(scenes, without) < _chance(scenes)
    ratio = lambda scene: [_find(scene, "subject").size / _find(scene, "reference").size]  # noqa: E731
    assert _accuracy(scenes, ratio) > 0.99
    assert _accuracy(scenes, _others) < _chance(scenes)


def test_depth_by_size_alone_is_the_same_picture_in_any_drawing_order():
    for _, scene in _scenes("depth", 20, cues=("size",)):
        assert (_pixels(scene) == _pixels(Scene(scene.shapes[::-1]))).all()


def test_the_count_is_told_neither_by_the_total_nor_by_looks():
    scenes = _scenes("counting", N_GUESSED)

    def features(scene):
        asked = [scene.record["subject_shape"] == kind for kind in SHAPES]
        sizes = [shape.size for shape in scene.shapes]
        colors = {shape.color for shape in scene.shapes}
        return [*asked, len(scene.shapes), np.mean(sizes), len(colors), *_place(scene.shapes[0])]

    assert _accuracy(scenes, features) < _chance(scenes)


def test_in_inside_neither_hollow_shape_is_told_by_what_is_in_it():
    """The named hollow shape is empty, large or a circle equally often for both labels."""
    scenes = _scenes("inside", N_GUESSED, distractors=(1, 5))

    def features(scene):
        reference = _find(scene, "reference")
        within = [
            s for s in scene.shapes
            if not s.line and hypot(s.x - reference.x, s.y - reference.y) < reference.size
        ]  # fmt: skip
        return [len(within), reference.size, reference.kind == "circle", len(scene.shapes)]

    assert _accuracy(scenes, features) < _chance(scenes)
