"""Rows that share a sequence have the same states as alone."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny, tiny_vlms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vsp import models
from vsp.models.contract import (
    Picture,
    PromptGroup,
    Recorded,
    TokenizedPrompt,
    n_padded_tokens,
    prompt_group,
)
from vsp.models.prompt_tree import bundle_groups

SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt"
KINDS = {
    "llava15": ("llava15", None),
    "qwen2": ("qwen2", partial(tiny.write_qwen, generation="2")),
    "qwen2.5": ("qwen2", partial(tiny.write_qwen, generation="2.5")),
    "spatialrgpt": ("spatialrgpt", None),
    **{name: ("auto", write) for name, write in tiny_vlms.WRITERS.items()},
    "narrow": ("auto", partial(tiny_vlms.write_narrow, window=16)),
}
CANNOT = {"paligemma": "its image tokens attend to the prompt", "narrow": "window of 16 tokens is shorter",
          "qwen3_5": "layers of type linear_attention need whole rows"}  # fmt: skip
# Prompts about four images. Gemma 3's window is 32 tokens; the last prompt is longer.
PROMPTS = [
    ["Where is the red circle?", "Up?", "Where is the red circle?", "{or}\nleft of the blue one?"],
    ["The only one"],
    ["Is it", "Is it above", "Is it above the circle, or rather below it, at the lower edge?"],
    ["x", "x"],
]


def _images():
    rng = np.random.default_rng(0)
    sizes = [(448, 448), (60, 200), (300, 130), (64, 64)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def _config(name, checkpoint, base, **changes):
    family, write = KINDS[name]
    folder = {"llava15": checkpoint, "spatialrgpt": SPATIALRGPT}.get(name, base / name)
    if write is not None and not folder.exists():
        write(folder)
    template = "<image>{instruction}" if name == "paligemma" else None
    full = {"quantization": "none", "dtype": "float32", "template": template}
    return models.resolve(family, checkpoint=str(folder), **{**full, **changes})


@pytest.fixture(scope="module")
def load(checkpoint, tmp_path_factory):
    """Load a kind of model once: `load("gemma3", dtype="float16")`."""
    loaded, base = {}, tmp_path_factory.mktemp("sharing")

    def load(name, **changes):
        key = (name, str(changes))
        if key not in loaded:
            loaded[key] = models.load(_config(name, checkpoint, base, **changes))
        return loaded[key]

    return load


def _groups(loaded, prompts, share=True):
    groups = []
    for image, asked in zip(_images(), prompts, strict=False):
        picture = loaded.processor.picture(image)
        rows = [loaded.processor.row(picture, prompt) for prompt in asked]
        parts = [rows] if share else [[row] for row in rows]
        groups += [prompt_group(picture, part) for part in parts]
    return groups


def _shared(loaded, prompts=PROMPTS):
    return loaded.model.forward(_groups(loaded, prompts))().states["last"]


def _alone(loaded, prompts=PROMPTS):
    pairs = [(image, p) for image, asked in zip(_images(), prompts, strict=False) for p in asked]
    return np.concatenate([loaded.last_token_states([i], [p]) for i, p in pairs], axis=1)


@pytest.mark.parametrize("name", KINDS)
def test_a_row_that_shares_its_image_has_the_states_it_has_alone(load, name):
    loaded = load(name)
    expected = _alone(loaded)
    assert np.abs(expected).max() > 1  # so that 1e-4 is a meaningful tolerance
    assert np.abs(_shared(loaded) - expected).max() < 1e-4
    # Rows with different image or prompt have different states, so a wrong order is noticed.
    states = expected[-1]
    apart = np.abs(states[:, None] - states[None]).max(axis=2)
    same = {(0, 2), (2, 0), (8, 9), (9, 8)} | {(i, i) for i in range(10)}
    assert all((apart[i, j] > 1e-3) == ((i, j) not in same) for i in range(10) for j in range(10))


@pytest.mark.parametrize("name", [name for name in KINDS if name not in CANNOT])
def test_where_work_can_be_shared_it_is_and_nothing_is_said(load, name, caplog):
    loaded = load(name)
    shared, alone = (_n_computed(loaded, share) for share in (True, False))
    assert shared < 0.75 * alone
    # No more tokens than the groups count, padding included.
    assert shared == n_padded_tokens(_groups(loaded, PROMPTS))
    assert not caplog.records


def _n_computed(loaded, share):
    """Number of tokens that enter the first decoder layer."""
    language = getattr(loaded.model, "_decoder", None) or loaded.model._llm
    seen = []

    def count(_module, args, kwargs):
        states = args[0] if args else kwargs["hidden_states"]
        seen.append(states.shape[0] * states.shape[1])

    hook = language.layers[0].register_forward_pre_hook(count, with_kwargs=True)
    try:
        loaded.model.forward(_groups(loaded, PROMPTS, share))
    finally:
        hook.remove()
    return sum(seen)


def test_a_prompt_that_begins_with_the_image_is_padded_with_text(load):
    """Qwen3-VL counts image tokens in the input of its decoder, including padding."""
    loaded = load("qwen3_vl", template="<image>{instruction}")
    assert np.abs(_shared(loaded) - _alone(loaded)).max() < 1e-4


@pytest.mark.parametrize("name", CANNOT)
def test_a_model_that_cannot_share_says_why_and_once(checkpoint, tmp_path, name, caplog):
    caplog.set_level(logging.WARNING, "vsp")
    loaded = models.load(_config(name, checkpoint, tmp_path))  # a new one, which has not logged yet
    for _ in range(2):
        _shared(loaded, PROMPTS[2:])
    (record,) = caplog.records
    assert record.name == "vsp.models.capture" and CANNOT[name] in record.getMessage()


@pytest.mark.parametrize("name", ["gemma3", "narrow"])
def test_a_prompt_longer_than_the_attention_window_is_right(load, name):
    prompts = [["far " * n for n in (9, 20, 1)], ["far " * 30 + end for end in ("a", "b", "b c")]]
    loaded = load(name)
    assert np.abs(_shared(loaded, prompts) - _alone(loaded, prompts)).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "dtype", "bound"),
    [
        *((name, "bfloat16", 0.03) for name in ("llava15", "qwen2", "spatialrgpt", "gemma3")),
        *((name, "float16", 0.005) for name in ("llava15", "internvl")),
    ],
)
def test_in_half_precision_only_the_last_bits_depend_on_sharing(load, name, dtype, bound):
    loaded = load(name, dtype=dtype)
    shared, alone = _shared(loaded), _alone(loaded)
    assert np.isfinite(shared).all()
    differences = np.abs(shared.astype(np.float32) - alone).max(axis=(1, 2))
    assert (differences / np.abs(alone).max(axis=(1, 2)) < bound).all()


@pytest.mark.parametrize("name", ["llava15", "qwen2"])
def test_answers_in_4_bits_agree_with_themselves(load, name):
    loaded, options = load(name, quantization="4bit"), ((5,), (7, 8), (7, 9, 6), (11, 12, 13))
    recorded = Recorded(n_options=len(options))

    def answers(share):
        groups = [
            prompt_group(one.picture, [replace(row, options=options) for row in one.rows])
            for one in _groups(loaded, PROMPTS, share)
        ]
        return loaded.model.forward(groups, recorded)().answers

    assert (answers(True) == answers(True)).all()
    assert np.abs(answers(True) - answers(False)).max() < 1e-3


def test_regions_are_put_where_their_branch_is(load):
    loaded = load("spatialrgpt", options={"regions": "mask"})
    image, masks = _images()[2], np.zeros((3, 130, 300), bool)
    masks[0, :60, :80], masks[1, 70:, 100:], masks[2, 20:90, 220:] = True, True, True
    picture = loaded.processor.picture(image)
    rows = [
        loaded.processor.row(picture, "Is <mask> left of <mask>?", regions=masks[:2]),
        loaded.processor.row(picture, "Is <mask> left of <mask>?", regions=masks[1:]),
        loaded.processor.row(picture, "Is it? And where is <mask> in the end?", regions=masks[:1]),
        loaded.processor.row(picture, "Is there a circle?"),
    ]
    alone = [loaded.model.forward([prompt_group(picture, [row])])().states["last"] for row in rows]
    alone = np.concatenate(alone, axis=1)
    for n_rows in (4, 2):  # the first two have equal tokens
        group = prompt_group(picture, rows[:n_rows])
        shared = loaded.model.forward([group])().states["last"]
        assert np.abs(shared - alone[:, :n_rows]).max() < 1e-4
    assert np.abs(alone[-1, 0] - alone[-1, 1]).max() > 1e-3


# Few letters and lengths, so that prompts often share a prefix or are equal.
TEXTS = st.lists(st.text("ab ", min_size=1, max_size=12), min_size=1, max_size=5)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_any_prompts_about_any_images_have_the_states_they_have_alone(load, prompts):
    loaded = load("llava15")
    assert np.abs(_shared(loaded, prompts) - _alone(loaded, prompts)).max() < 1e-4


PICTURE = Picture({}, (7, 7, 7), {}, ("", ""))


def _group(*tails, options=()):
    options = tuple(map(tuple, options))
    return prompt_group(
        PICTURE,
        [TokenizedPrompt((7, 7, 7, *tail), 3 + len(tail), options=options) for tail in tails],
    )


def test_a_bundle_is_laid_out_as_described():
    laid = bundle_groups([_group((1, 2), (1, 3, 4), (1, 5)), _group((8,))], pad=0)
    assert laid.trunks.tolist() == [[7, 7, 7, 1, 3, 4], [7, 7, 7, 8, 0, 0]]
    assert laid.trunk_lengths.tolist() == [6, 4]
    assert laid.tokens.tolist() == [[7, 7, 7, 1, 3, 4, 2, 5], [7, 7, 7, 8, 0, 0, 0, 0]]
    assert laid.sources[0].tolist() == [0, 1, 2, 3, 4, 5, 4, 4]
    assert laid.pieces.tolist() == [[0, 0, 0, 0, 2, 2, 1, 3], [1, 1, 1, 1, 4, 4, 4, 4]]
    assert laid.in_branch.tolist() == [[False] * 6 + [True] * 2, [False] * 8]
    assert [place.last for place in laid.rows] == [(0, 6), (0, 5), (0, 7), (1, 3)]
    assert laid.has_branches
    assert not bundle_groups([_group((8,)), _group((9, 9))], pad=0).has_branches


def test_one_token_of_each_row_stays_its_own():
    assert _group((1,), (1,)).n_shared == 3 and _group((1, 2), (1, 2, 3)).n_shared == 4
    laid = bundle_groups([_group((1,), (1,), (1,))], pad=0)
    assert laid.tokens.tolist() == [[7, 7, 7, 1, 1, 1]]
    assert [place.last for place in laid.rows] == [(0, 3), (0, 4), (0, 5)]


TAILS = st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=6), min_size=1, max_size=5)


OPTIONS = st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=4), max_size=4)


@given(st.lists(st.tuples(TAILS, OPTIONS), min_size=1, max_size=4), st.booleans())
def test_every_row_and_option_can_be_read_off_the_bundle(groups, share):
    """The tokens that a token attends to, ordered by position, are those before it on its path."""
    given = [_group(*tails, options=options) for tails, options in groups]
    laid = bundle_groups(given, pad=-5, share=share)
    rows = [row for group in given for row in group.rows]
    assert len(laid.rows) == len(laid.options) == len(rows)
    for row, place, options in zip(rows, laid.rows, laid.options, strict=True):
        assert place.row is row and laid.groups[place.sequence].rows[place.index] is row
        assert [laid.tokens[place.token(i)] for i in range(len(row.tokens))] == list(row.tokens)
        wanted = {option[:n] for option in row.options for n in range(len(option))} | {()}
        assert options.keys() == wanted and options[()] == place.last
        for prefix, at in options.items():
            assert _path(laid, *at) == [*row.tokens, *prefix]
    computed = laid.tokens != -5
    if share:
        assert computed.sum(axis=1).tolist() == [group.n_tokens for group in given]
        assert len(laid.places) == len(rows)
    else:
        assert not laid.has_branches


def _path(laid, sequence, position):
    """The tokens that a token attends to, and itself."""
    pieces, at = laid.pieces[sequence], laid.sources[sequence]
    seen = laid.visible[sequence, pieces[position]][pieces] & (at <= at[position])
    assert at[seen].tolist() == list(range(at[position] + 1))
    return laid.tokens[sequence, seen].tolist()


@given(TAILS)
def test_a_group_cut_in_half_holds_the_same_rows(tails):
    group = _group(*tails)
    if len(group.rows) > 1:
        halves = group.halves()
        assert halves[0].rows + halves[1].rows == group.rows
        assert all(
            isinstance(half, PromptGroup) and half.n_tokens <= group.n_tokens for half in halves
        )
