"""Edits of states: against plain hooks on transformers, against algebra, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import more_tiny_vlms, tiny, tiny_vlms
from helpers.edited_reference import edited_pass, option_score
from helpers.reference import PROMPTS, Family, make_images
from PIL import Image

from vsp import models
from vsp.errors import ModelError
from vsp.models.contract import Picture, PromptGroup, Recorded, TokenizedPrompt, prompt_group
from vsp.models.edit_hooks import edit_states
from vsp.models.edited_groups import settings_group
from vsp.models.edits import Add, Copy, Edit, Project
from vsp.models.prompt_tree import bundle_groups

SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt"
WRITERS = {
    "llava": more_tiny_vlms.write_llava_siglip,
    "qwen2_vl": partial(tiny.write_qwen, generation="2"),
    "paligemma": tiny_vlms.write_paligemma,  # its rows cannot share a sequence
}
OPTIONS = ((5,), (7, 9, 6), (11, 12))  # two that branch, so that PaliGemma has two sequences a row
IMAGES = make_images()[:2]


class Transformers(Family):
    """A small checkpoint, and transformers' model of it."""

    def plain(self, image, prompt, option, edits=(), donor=None):
        inputs = self.inputs(image, prompt, option)
        return edited_pass(self.decoder, lambda: self.alone(**inputs), edits, donor)


class SpatialRGPT:
    """The small SpatialRGPT; transformers' Llama gets the embeddings of image and prompt."""

    name = "spatialrgpt"

    def __init__(self):
        full = {"quantization": "none", "dtype": "float32"}
        self.loaded = models.load(
            models.resolve("spatialrgpt", checkpoint=str(SPATIALRGPT), **full)
        )

    def plain(self, image, prompt, option, edits=(), donor=None):
        model, processor = self.loaded.model, self.loaded.processor
        picture = processor.picture(image)
        with torch.inference_mode():
            embeds = model._prompt_embeds(prompt_group(picture, [processor.row(picture, prompt)]))
            more = model._llm.embed_tokens(torch.tensor([option], dtype=torch.long))
        embeds = torch.cat([embeds, more], dim=1)
        llm = model._whole_llm
        return edited_pass(llm.model, lambda: llm(inputs_embeds=embeds), edits, donor)


@pytest.fixture(scope="module", params=[*WRITERS, "spatialrgpt"])
def family(request, tmp_path_factory):
    if request.param == "spatialrgpt":
        return SpatialRGPT()
    folder = tmp_path_factory.mktemp("edits") / request.param
    return Transformers(request.param, WRITERS[request.param](folder))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits") / "llava"
    return models.load(Family("llava", WRITERS["llava"](folder)).config())


def _row(loaded, image, prompt):
    picture = loaded.processor.picture(image)
    row = loaded.processor.row(picture, prompt)
    places = {"subject": (len(row.tokens) - 5,), "image": loaded.processor.image_places(picture)}
    return picture, replace(row, options=OPTIONS, places=places)


def _rows(loaded, *prompts):
    return [_row(loaded, image, prompt) for image, prompt in zip(IMAGES, prompts, strict=False)]


def _tokens(row):
    """Token groups: the last token, a name in the prompt, some image tokens."""
    last = len(row.tokens) - 1
    return {"last": (last,), "name": (last - 4, last - 5), "image": row.places["image"][1:4]}


def _changes(size, donor_tokens):
    """An addition, a copy from row 0 and the removal of two directions."""
    rng = np.random.default_rng(0)
    right = rng.normal(size=(size, 2)).astype(np.float32)
    return [
        Add(rng.normal(size=size).astype(np.float32)),
        Copy(0, donor_tokens),
        Project(rng.normal(size=size).astype(np.float32), right, np.linalg.pinv(right)),
    ]


RECORDED = Recorded(("last", "subject", "image"), len(OPTIONS))


def _forward(loaded, groups, edits=()):
    return loaded.model.forward(groups, RECORDED, edits)()


def _bytes(outputs, row):
    of_states = [one[:, row].tobytes() for one in outputs.states.values()]
    return [*of_states, outputs.answers[row].tobytes()]


def test_edits_are_those_of_plain_hooks_on_transformers_one_row_and_option_at_a_time(family):
    loaded = family.loaded
    (donor_picture, donor), (picture, row) = _rows(loaded, *PROMPTS[:2])
    n_layers = _n_layers(family)
    size = family.plain(IMAGES[0], PROMPTS[0], ())[0].shape[-1]
    settings = [()]
    for place, tokens in _tokens(row).items():
        for number, change in enumerate(_changes(size, _tokens(donor)[place])):
            layers = (number, n_layers - 1) if place == "last" else (number,)
            settings += [(Edit(0, layer, tokens, change),) for layer in layers]
    groups, edits = settings_group(picture, row, settings, first_row=1)
    out = _forward(loaded, [prompt_group(donor_picture, [donor]), *groups], edits)
    donor_states, _ = family.plain(IMAGES[0], PROMPTS[0], ())
    for number, setting in enumerate(settings, start=1):
        states, _ = family.plain(IMAGES[1], PROMPTS[1], (), setting, donor_states)
        for position, places in (("last", (-1,)), *row.places.items()):
            expected = states[:, list(places)].mean(1).numpy()
            assert np.abs(out.states[position][:, number] - expected).max() < 1e-4
        for option, found in zip(OPTIONS, out.answers[number], strict=True):
            _, logits = family.plain(IMAGES[1], PROMPTS[1], option, setting, donor_states)
            assert abs(found - option_score(logits, option)) < 1e-4
        if number > 1:  # so that 1e-4 is a meaningful tolerance
            assert np.abs(out.answers[number] - out.answers[1]).max() > 1e-3


def _n_layers(family):
    return len(family.plain(IMAGES[0], PROMPTS[0], ())[0])


def test_an_addition_of_zero_and_a_copy_of_itself_give_the_bytes_of_no_edit(family):
    loaded = family.loaded
    (_, _), (picture, row) = _rows(loaded, *PROMPTS[:2])
    size = family.plain(IMAGES[0], PROMPTS[0], ())[0].shape[-1]
    group = prompt_group(picture, [row])
    plain = _forward(loaded, [group])
    every = tuple(range(len(row.tokens)))
    for layer in range(_n_layers(family)):
        for change in (Add(np.zeros(size, np.float32)), Copy(0, every)):
            edited = _forward(loaded, [group], [Edit(0, layer, every, change)])
            assert _bytes(edited, 0) == _bytes(plain, 0)


def test_a_row_patched_at_all_tokens_of_layer_0_has_the_other_rows_answers(family):
    loaded = family.loaded
    image = Image.new("RGB", IMAGES[1].size, (200, 30, 30))
    (first, donor), (second, row) = _row(loaded, image, "Up? "), _row(loaded, IMAGES[1], "Off?")
    every = tuple(range(len(row.tokens)))
    groups = [prompt_group(first, [donor]), prompt_group(second, [row])]
    plain = _forward(loaded, groups)
    assert np.abs(plain.answers[0] - plain.answers[1]).max() > 1e-2
    out = _forward(loaded, groups, [Edit(1, 0, every, Copy(0, every))])
    assert np.abs(out.answers[1] - plain.answers[0]).max() < 1e-4
    assert np.abs(out.states["last"][:, 1] - plain.states["last"][:, 0]).max() < 1e-4
    assert _bytes(out, 0) == _bytes(plain, 0)
    swapped = [Edit(1, 0, every, Copy(0, every)), Edit(0, 0, every, Copy(1, every))]
    both = _forward(loaded, groups, swapped)  # copies are taken before the layer's edits
    assert np.abs(both.answers - plain.answers[::-1]).max() < 1e-4


def test_settings_that_share_the_image_agree_with_settings_alone(family):
    loaded = family.loaded
    _, (picture, row) = _rows(loaded, *PROMPTS[:2])
    size = family.plain(IMAGES[0], PROMPTS[0], ())[0].shape[-1]
    rng = np.random.default_rng(1)
    last = len(row.tokens) - 1
    settings = [()] + [
        (Edit(0, layer, tokens, Add(rng.normal(size=size).astype(np.float32))),)
        for layer in range(_n_layers(family))
        for tokens in ((last,), (last - 3, last - 6))
    ]
    groups, edits = settings_group(picture, row, settings)
    assert [len(group.rows) for group in groups] == [len(settings)]
    assert groups[0].n_shared == last - 6
    shared = _forward(loaded, groups, edits)
    alone = _forward(loaded, [PromptGroup(picture, (row,), 0)] * len(settings), edits)
    assert np.abs(shared.answers - alone.answers).max() < 1e-5
    assert np.abs(shared.states["last"] - alone.states["last"]).max() < 1e-5


def _planted(checkpoint):
    """A LLaVA whose layers add nothing, so that its head reads the embedding and what is added."""
    loaded = models.load(models.resolve("llava15", checkpoint=str(checkpoint), quantization="none"))
    model = loaded.model._model
    with torch.inference_mode():
        for layer in loaded.model._decoder.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        loaded.model._decoder.norm.weight.fill_(1.0)
        generator = torch.Generator().manual_seed(0)
        weight = model.lm_head.weight
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return loaded, weight.detach().numpy()


def test_a_planted_linear_model_flips_exactly_at_the_scale_that_algebra_says(checkpoint):
    """logit a - logit b is (a - b) @ (x + scale v), times the norm's positive factor."""
    loaded, head = _planted(checkpoint)
    picture, row = _row(loaded, IMAGES[0], PROMPTS[0])
    row, last = replace(row, options=((5,), (7,)), places={}), len(row.tokens) - 1
    recorded = Recorded(n_options=2)
    plain = loaded.model.forward([prompt_group(picture, [row])], recorded)()
    n_layers, size = plain.states["last"].shape[0], plain.states["last"].shape[2]
    vector = np.random.default_rng(0).normal(size=size).astype(np.float32)
    difference = (head[5] - head[7]).astype(np.float64)
    for layer in range(n_layers):
        x = plain.states["last"][layer, 0].astype(np.float64)
        flip = -(difference @ x) / (difference @ vector)
        scales = np.array([0, 0.999, 1.001, 2]) * flip
        settings = [
            (Edit(0, layer, (last,), Add((scale * vector).astype(np.float32))),) for scale in scales
        ]
        groups, edits = settings_group(picture, row, settings)
        out = loaded.model.forward(groups, recorded, edits)()
        prefers = out.answers[:, 0] > out.answers[:, 1]
        assert (prefers[:2] == prefers[0]).all() and (prefers[2:] == ~prefers[0]).all()
        moved = out.states["last"] - plain.states["last"]
        assert np.abs(moved[:layer]).max(initial=0) < 1e-5
        carried = scales[None, :, None] * vector
        upto = max(layer + 1, n_layers - 1)  # the last layer is behind the norm
        assert np.abs(moved[layer:upto] - carried).max() < 1e-5 * max(1, np.abs(scales).max())


def test_edits_of_one_layer_and_of_several_layers_work_together(llava):
    """Two additions at two layers and a removal behind them, against passes with plain hooks."""
    picture, row = _row(llava, IMAGES[0], PROMPTS[0])
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=(2, 64)).astype(np.float32)
    last = len(row.tokens) - 1
    unit = (one / np.linalg.norm(one))[:, None]
    erase = Project(np.zeros(64, np.float32), unit, unit.T)
    edits = [
        Edit(0, 1, (last,), Add(one)),
        Edit(0, 1, (last - 1,), Add(two)),
        Edit(0, 1, (last - 2,), Copy(0, (last,))),  # the state before the edits of the layer
        Edit(0, 2, (last,), erase),
    ]
    out = _forward(llava, [prompt_group(picture, [row])], edits)
    decoder, inputs = llava.model._decoder, Family("llava", Path(llava.model._model.name_or_path))
    whole = inputs.inputs(IMAGES[0], PROMPTS[0], ())
    plain, _ = edited_pass(decoder, lambda: llava.model._model(**whole), ())
    states, _ = edited_pass(decoder, lambda: llava.model._model(**whole), edits, plain)
    assert np.abs(out.states["last"][:, 0] - states[:, -1].numpy()).max() < 1e-4
    assert abs(out.states["last"][2, 0] @ unit) < 1e-4


def test_an_addition_of_zero_keeps_the_sign_of_zero():
    decoder = torch.nn.Module()
    decoder.layers = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    decoder.get_input_embeddings = lambda: torch.nn.Embedding(1, 1)
    picture = Picture({}, (7,), {}, ("", ""))
    bundle = bundle_groups([prompt_group(picture, [TokenizedPrompt((7, 8), 2)])], pad=0)
    states = torch.tensor([[[-0.0, 0.0], [-0.0, 1.0]]])
    edit = Edit(0, 1, (0, 1), Add(np.zeros(2, np.float32)))
    with edit_states(decoder, bundle, [edit]):
        changed = decoder.layers[0](states)
    assert changed.numpy().tobytes() == states.numpy().tobytes()


def test_settings_that_edit_the_image_get_a_group_each_and_rows_keep_their_order(llava):
    picture, row = _row(llava, IMAGES[0], PROMPTS[0])
    last, image = len(row.tokens) - 1, row.places["image"]
    add = Add(np.ones(64, np.float32))
    text, seen = (Edit(0, 1, (last - 2,), add),), (Edit(0, 1, image, add),)
    groups, edits = settings_group(picture, row, [(), text, seen, seen, text], first_row=3)
    assert [(len(group.rows), group.n_shared) for group in groups] == [
        (2, last - 2), (1, 0), (1, 0), (1, 0),
    ]  # fmt: skip
    assert [edit.row for edit in edits] == [4, 5, 6, 7]


REFUSED = {
    "edit of row 2: the batch has rows 0-1": Edit(2, 1, (90,), Add(np.ones(64, np.float32))),
    "edit of row -1: the batch has rows 0-1": Edit(-1, 1, (90,), Add(np.ones(64, np.float32))),
    "edit at layer 5: the model has layers 0-4": Edit(0, 5, (90,), Add(np.ones(64, np.float32))),
    "edit at layer -1: the model has layers 0-4": Edit(0, -1, (90,), Add(np.ones(64, np.float32))),
    "token 900 is not one of 0-": Edit(0, 1, (900,), Add(np.ones(64, np.float32))),
    "token -1 is not one of 0-": Edit(0, 1, (-1,), Add(np.ones(64, np.float32))),
    "names no token": Edit(0, 1, (), Add(np.ones(64, np.float32))),
    "share the first 91 tokens": Edit(0, 1, (90,), Add(np.ones(64, np.float32))),
    "a token is changed twice": Edit(1, 1, (91, 91), Add(np.ones(64, np.float32))),
    "edit of row 7: the batch has rows": Edit(0, 1, (91,), Copy(7, (91,))),
    "1 tokens get the states of 2 tokens": Edit(0, 1, (91,), Copy(1, (0, 91))),
    "of 0-9": Edit(0, 1, (91,), Copy(1, (99,))),
    r"edit Add: its arrays have shapes \[\(63,\)\]": Edit(
        0, 1, (91,), Add(np.ones(63, np.float32))
    ),
    "edit Project: its arrays have shapes": Edit(
        0, 1, (91,), Project(np.ones(64), np.ones((64, 2)), np.ones((1, 64)))
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("name", ["llava", "fake"])
def test_an_edit_that_the_batch_cannot_have_is_refused(llava, name, reason):
    loaded = llava if name == "llava" else models.load(models.resolve("fake"))
    picture = loaded.processor.picture(IMAGES[0])
    row = loaded.processor.row(picture, "x" * 40)
    row = replace(row, tokens=(row.tokens * 92)[:92])
    group = PromptGroup(picture, (row, row), 91)
    with pytest.raises(ModelError, match=reason):
        loaded.model.forward([group], Recorded(), [REFUSED[reason]])


def test_two_edits_of_one_state_are_refused(llava):
    picture, row = _row(llava, IMAGES[0], PROMPTS[0])
    edit = Edit(0, 1, (5, 6), Add(np.ones(64, np.float32)))
    with pytest.raises(ModelError, match="edit at layer 1 of row 0: a token is changed twice"):
        _forward(llava, [prompt_group(picture, [row])], [edit, replace(edit, tokens=(6,))])


def test_no_hook_is_left_after_a_pass_with_edits(llava):
    picture, row = _row(llava, IMAGES[0], PROMPTS[0])
    group, decoder = prompt_group(picture, [row]), llava.model._decoder
    before = _bytes(_forward(llava, [group]), 0)
    add = Add(np.ones(64, np.float32))
    _forward(llava, [group], [Edit(0, layer, (9,), add) for layer in range(5)])
    assert _bytes(_forward(llava, [group]), 0) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in decoder.modules())


@pytest.fixture(scope="module")
def fake():
    return models.load(models.resolve("fake"))


def _fake_rows(fake):
    texts = [" above", " below"]
    rows = []
    for image, prompt in zip(IMAGES, ("Where is it?", "Where is he?"), strict=True):
        picture = fake.processor.picture(image)
        row = fake.processor.row(picture, prompt)
        options = fake.processor.option_tokens(picture, row, prompt, texts)
        rows.append(
            (picture, replace(row, options=options, places={"subject": (4,), "image": (0,)}))
        )
    return rows


def test_the_fake_model_carries_an_edit_on_to_later_layers_tokens_and_answers(fake):
    _, (picture, row) = _fake_rows(fake)
    group, last = prompt_group(picture, [row]), len(row.tokens) - 1
    recorded = Recorded(("last", "subject", "image"), 2)
    plain = fake.model.forward([group], recorded)()
    vector = np.random.default_rng(0).normal(size=64).astype(np.float32)
    pulls = np.array([fake.model.option_weights(one) @ vector for one in row.options])
    for tokens, first in (((last,), 2), ((4,), 3), ((0,), 3), ((0, 4), 3)):
        out = fake.model.forward([group], recorded, [Edit(0, 2, tokens, Add(vector))])()
        moved = {name: out.states[name][:, 0] - plain.states[name][:, 0] for name in out.states}
        assert not moved["last"][:first].any() and np.allclose(moved["last"][first:], vector)
        of_subject = {0: 3, 4: 2}.get(tokens[-1], 5)
        assert np.allclose(moved["subject"][of_subject:], vector, atol=1e-6)
        assert not moved["subject"][:of_subject].any()
        assert np.allclose(out.answers[0] - plain.answers[0], pulls, atol=1e-4)
    nothing = fake.model.forward([group], recorded, [Edit(0, 2, (0, last), Add(0 * vector))])()
    assert _bytes(nothing, 0) == _bytes(plain, 0)


def test_the_fake_model_flips_at_the_scale_that_algebra_says(fake):
    (_, _), (picture, row) = _fake_rows(fake)
    last = len(row.tokens) - 1
    group, recorded = prompt_group(picture, [row]), Recorded(n_options=2)
    plain = fake.model.forward([group], recorded)()
    one, two = map(fake.model.option_weights, row.options)
    vector = two - one
    flip = -((one - two) @ plain.states["last"][-1, 0]) / ((one - two) @ vector)
    settings = [
        (Edit(0, 1, (last,), Add((scale * flip * vector).astype(np.float32))),)
        for scale in (0.99, 1.01)
    ]
    groups, edits = settings_group(picture, row, settings)
    before, after = fake.model.forward(groups, recorded, edits)().answers
    assert (np.argmax(before) == np.argmax(plain.answers[0])) and np.argmax(after) != np.argmax(
        before
    )


def test_a_row_of_the_fake_model_patched_at_all_tokens_has_the_other_rows_answers(fake):
    groups = [prompt_group(picture, [row]) for picture, row in _fake_rows(fake)]
    every = tuple(range(len(groups[0].rows[0].tokens)))
    recorded = Recorded(("last", "subject"), 2)
    plain = fake.model.forward(groups, recorded)()
    out = fake.model.forward(groups, recorded, [Edit(1, 0, every, Copy(0, every))])()
    assert (
        np.allclose(out.answers[1], plain.answers[0]) and (out.answers[0] == plain.answers[0]).all()
    )
    for position in recorded.positions:
        assert np.allclose(out.states[position][:, 1], plain.states[position][:, 0])
    itself = fake.model.forward(groups, recorded, [Edit(1, 2, every, Copy(1, every))])()
    assert _bytes(itself, 1) == _bytes(plain, 1)


def test_the_fake_model_loses_what_a_projection_takes_out(fake):
    (_, _), (picture, row) = _fake_rows(fake)
    group, last = prompt_group(picture, [row]), len(row.tokens) - 1
    unit = np.zeros((64, 1), np.float32)
    unit[7] = 1
    mean = np.full(64, 0.25, np.float32)
    edit = Edit(0, 3, (last,), Project(mean, unit, unit.T))
    plain, out = (fake.model.forward([group], Recorded(), some)() for some in ((), [edit]))
    moved = out.states["last"][:, 0] - plain.states["last"][:, 0]
    assert np.isclose(out.states["last"][3, 0, 7], 0.25) and not moved[:3].any()
    assert np.allclose(moved[3:], moved[3]) and not np.delete(moved, 7, axis=1).any()
