"""Studies whose truth is known: runs of drawn states and answers about a picture and its variants.

A row has a label that its picture shows, and a label that its words suggest, which is the true one in
most rows. A world says which of the two states and answers hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsp.evaluation.judged_variants import JudgedVariant, judged_variants
from vsp.evaluation.probe_run import probe_run
from vsp.evaluation.probe_settings import ProbeSettings
from vsp.storage.imported_run import import_states
from vsp.storage.npz_states import CARD, KEYS, STATES
from vsp.storage.results import Results
from vsp.storage.state_files import open_state_file

LABELS = np.array(["above", "below", "left_of", "right_of"])
MIRRORED, SWAPPED = np.array([0, 1, 3, 2]), np.array([1, 0, 3, 2])
ROLES = ("original", "blank", "mirrored", "swapped", "names")
_HIDDEN = 8
_SETTINGS: dict[str, Any] = {
    "permutations": 0, "controls": 0, "curve": False, "random": False, "words": False, "folds": 3,
    "repeats": 1, "resamples": 100, "strengths": (0.1,),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """The strength of each signal in states and answers."""

    picture: float = 0.0  # of the label that the picture shows
    words: float = 0.0  # of the label that the words suggest
    looks: float = 1.0  # of noise that another picture changes
    suggests: float = 0.7  # share of rows whose words suggest the true label
    n_groups: int = 300
    own_split: bool = True


GROUNDED = World(picture=4.0)
WORDS_ALONE = World(words=4.0, n_groups=900)
PRIOR = World(words=4.0, looks=0.0, suggests=0.0, n_groups=900)
AMBIGUOUS = World(picture=0.8, words=2.0, n_groups=60)
NOTHING = World()


@dataclass(frozen=True)
class Drawn:
    """The rows of a world, by role."""

    label: Mapping[str, NDArray[np.intp]]
    states: Mapping[str, NDArray[np.float64]]  # [row, layer, hidden]
    answer: Mapping[str, NDArray[np.intp]]
    group: NDArray[np.intp]


def draw(world: World, seed: int = 0) -> Drawn:
    """Two rows a group. The last of two layers holds the world; the first is noise."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(world.n_groups), 2)
    n = len(group)
    label = rng.integers(4, size=n)
    suggested = np.where(rng.random(n) < world.suggests, label, rng.integers(4, size=n))
    shows = {"original": label, "mirrored": MIRRORED[label], "swapped": SWAPPED[label]}
    says = {role: SWAPPED[suggested] if role == "swapped" else suggested for role in ROLES}
    direction = np.linalg.qr(np.random.default_rng(7).normal(size=(_HIDDEN, 8)))[0].T
    of_question = rng.normal(size=(n, 2, _HIDDEN))
    states, answer = {}, {}
    for role in ROLES:
        seen = shows.get(role, np.full(n, -1))
        signal = world.picture * direction[seen] * (seen >= 0)[:, None]
        signal = signal + world.words * direction[4 + says[role]]
        of_picture = rng.normal(size=(n, 2, _HIDDEN))
        made = of_question * 0.5 + world.looks * of_picture
        made[:, 1] += signal
        states[role] = made
        lean = world.picture * np.eye(4)[seen] * (seen >= 0)[:, None]
        lean = lean + world.words * np.eye(4)[says[role]] + of_question[:, 0, :4] * 0.5
        answer[role] = (lean + world.looks * of_picture[:, 0, :4]).argmax(axis=1)
    labels = {role: shows.get(role, label) for role in ROLES}
    return Drawn(labels, states, answer, group)


def write_study(work: Path, world: World, seed: int = 0) -> dict[str, Results]:
    """Run, probe and answer the world in the folder `work`; returns results by role."""
    drawn = draw(world, seed)
    return {role: _results(work, role, drawn, world) for role in ROLES}


def judge_study(
    work: Path, results: Mapping[str, Results]
) -> tuple[dict[str, JudgedVariant], dict[str, str]]:
    return judged_variants(results, work / "results" / "study", work)


def _results(work: Path, role: str, drawn: Drawn, world: World) -> Results:
    n = len(drawn.group)
    image = np.array([f"image{i}" for i in drawn.group])
    columns = {
        "label": LABELS[drawn.label[role]],
        "id": np.array([f"row{i}" for i in range(n)]),
        "group": image,
        "image": image,
        "image_sha256": np.array([_digest(role, i) for i in drawn.group.tolist()]),
    }
    if world.own_split:
        columns["split"] = np.where(drawn.group % 3 == 0, "train", "test")
    card = {"variants": [] if role == "original" else [role]}
    path = work / f"{role}.npz"
    states = drawn.states[role].astype(np.float32)
    arrays: dict[str, Any] = {KEYS[name]: column for name, column in columns.items()}
    arrays |= {STATES: states, CARD: np.array([json.dumps(card)])}
    np.savez(path, **arrays)
    run = import_states(open_state_file(path), work / "scratch" / f"study-{role}").run
    results = probe_run(run, ProbeSettings(**_SETTINGS), n_jobs=1)
    return with_answers(results, drawn.answer[role])


def _digest(role: str, group: int) -> str:
    """Swapped names have the same picture, and all blank pictures are equal."""
    picture = (
        "grey" if role in ("blank", "names") else f"{role.replace('swapped', 'original')}{group}"
    )
    return hashlib.sha256(picture.encode()).hexdigest()


def with_answers(results: Results, answer: NDArray[np.intp]) -> Results:
    """The same results with an answer of each row, in the order of the run."""
    summary, scores = results.read()
    predictions, estimates = results.arrays("predictions"), results.arrays("estimates")
    of_probes = [results.probe(one.layer)[1] for one in scores]
    of_folds = [
        {f"{split}.{name}": array for split, arrays in enumerate(results.fold_probes(one.layer))
         for name, array in arrays.items()}
        for one in scores
    ]  # fmt: skip
    rows = predictions["rows"]
    said = {
        "answer": answer[rows].astype(np.int32),
        "answer_names": LABELS,
        "answer_margin": np.where(LABELS[answer[rows]] == predictions["label"], 1.0, -1.0),
    }
    results.write(
        summary, scores, {**predictions, **said}, estimates, of_probes,
        of_folds if any(of_folds) else None,
    )  # fmt: skip
    return results
