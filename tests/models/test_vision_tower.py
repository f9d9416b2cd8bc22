"""States of vision towers and projectors: those of transformers, at the image and in boxes."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import more_tiny_vlms, tiny, tiny_vlms
from helpers.painted import without_attention
from helpers.reference import make_images
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    SiglipVisionModel,
)

from vsp import models
from vsp.choices import module_positions
from vsp.demo_checkpoint import write_checkpoint
from vsp.errors import ModelError
from vsp.extraction.positions import places_of
from vsp.models.contract import Recorded, prompt_group
from vsp.models.vision_tower import tower_shape
from vsp.storage.manifest import Sample

SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt"
WRITERS = {
    "clip": write_checkpoint,
    "siglip": more_tiny_vlms.write_llava_siglip,
    "vipllava": more_tiny_vlms.write_vipllava,
    "paligemma": tiny_vlms.write_paligemma,
    "gemma3": tiny_vlms.write_gemma3,
    "qwen2": partial(tiny.write_qwen, generation="2"),
    "qwen2.5": partial(tiny.write_qwen, generation="2.5"),
    "spatialrgpt": None,
}
RECORDED = Recorded(("last", *module_positions(("vision", "projector"), ("image", "subject-box"))))
BOXES = [(200, 30, 300, 420), (2, 90, 50, 180), (90, 20, 210, 100)]


@pytest.fixture(scope="module", params=WRITERS)
def family(request, tmp_path_factory):
    """Name, folder and configuration of a small checkpoint."""
    folder, kind, options = SPATIALRGPT, "auto", {}
    if request.param == "spatialrgpt":
        kind = "spatialrgpt"
    else:
        folder = tmp_path_factory.mktemp("small") / "model"
        WRITERS[request.param](folder)
        if request.param in ("paligemma", "clip"):
            options["template"] = "<image>{instruction}"
    full = {"quantization": "none", "dtype": "float32", "checkpoint": str(folder), **options}
    return request.param, folder, models.resolve(kind, **full)


def _row(processor, picture, size, box, positions):
    sample = Sample(id="", image="", prompt="?", label="", group="", subject_box=box)
    row = processor.row(picture, "?" * (1 + int(box[0]) % 3))
    places = places_of(processor, picture, row, sample, size, [p for p in positions if p != "last"])
    return type(row)(row.tokens, row.n_common, places=places)


def _reference(name, folder, image):
    """Tower states [layer, patch, width] without class token, and projected tokens or None."""
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    seen = dict(images(images=[image], return_tensors="pt"))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).model.eval()
    with torch.inference_mode():
        projected = torch.cat(list(model.get_image_features(**seen).pooler_output))
        if name.startswith("qwen"):
            out = model.visual(
                seen["pixel_values"], seen["image_grid_thw"], output_hidden_states=True
            )
            layers = torch.stack(out.hidden_states)
        else:
            tower = model.vision_tower(seen["pixel_values"], output_hidden_states=True)
            layers = torch.stack(tower.hidden_states)[:, 0]
    n_class = int(name in ("clip", "vipllava"))
    return layers[:, n_class:].numpy(), projected.reshape(-1, projected.shape[-1]).numpy()


def _vila_reference(processor, image):
    config = SiglipVisionModel.from_pretrained(SPATIALRGPT / "vision_tower", dtype=torch.float32)
    pixels = processor._pixels(images=[image], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        return torch.stack(config.eval()(pixels, output_hidden_states=True).hidden_states)[
            :, 0
        ].numpy()


def test_states_are_those_of_transformers_for_odd_batches_and_shared_pictures(family):
    name, folder, config = family
    loaded, shape = models.load(config), models.tower_shape(config)
    groups, expected = [], []
    for image, box, n_rows in zip(make_images(), BOXES, (2, 1, 3), strict=True):
        picture = loaded.processor.picture(image)
        boxes = [box, (0, 0, *image.size), box][:n_rows]
        rows = [
            _row(loaded.processor, picture, image.size, one, RECORDED.positions) for one in boxes
        ]
        groups.append(prompt_group(picture, rows))
        if name == "spatialrgpt":
            tower = _vila_reference(loaded.processor, image)
            seen = loaded.processor._pixels(images=[image], return_tensors="pt")
            pixels = seen["pixel_values"]
            projected = loaded.model._encode(pixels)[0][0].detach().numpy()
        else:
            tower, projected = _reference(name, folder, image)
        expected += [(tower[: shape.n_layers], projected, row, picture) for row in rows]
    assert shape.n_layers == 3  # of two blocks, or of three of which the projector reads the second
    states = loaded.model.forward(groups, RECORDED)().states
    for number, (tower, projected, row, picture) in enumerate(expected):
        got = {position: array[:, number] for position, array in states.items()}
        assert got["vision-image"].shape == tower[:, 0].shape == (shape.n_layers, shape.width)
        assert np.abs(got["vision-image"] - tower.mean(1)).max() < 1e-4
        assert np.abs(got["projector-image"] - projected.mean(0)).max() < 1e-4
        first = loaded.processor.image_places(picture)
        inside = [first.index(place) for place in row.places["projector-subject-box"]]
        assert np.abs(got["projector-subject-box"] - projected[inside].mean(0)).max() < 1e-4
        if not name.startswith("qwen"):
            patches = np.array(row.places["vision-subject-box"]) - int(name in ("clip", "vipllava"))
            assert np.abs(got["vision-subject-box"] - tower[:, patches].mean(1)).max() < 1e-4
    assert got["vision-image"].dtype == np.float32
    assert np.abs(states["vision-image"][-1, 0] - states["vision-image"][-1, 2]).max() > 1e-3


@pytest.mark.parametrize("family", ["clip", "qwen2", "qwen2.5", "spatialrgpt"], indirect=True)
def test_only_the_patch_of_its_place_reads_a_point(family):
    """Without attention, the states of a patch depend on its pixels alone."""
    name, _, config = family
    loaded = models.load(config)
    whole = loaded.model._tower if name == "spatialrgpt" else loaded.model._base
    without_attention(whole)
    size = (420, 252)  # 5 × 3 squares of Qwen's, in windows of 2 × 2
    picture = loaded.processor.picture(Image.new("RGB", size, (128, 128, 128)))
    centres = loaded.processor.tower_centres(picture, size)
    inside = ((centres > 0) & (centres < 1)).all(axis=1)  # not the class token, nor cut off
    numbers = np.flatnonzero(inside)

    def states(image):
        seen = loaded.processor.picture(image)
        row = loaded.processor.row(seen, "?")
        rows = [type(row)(row.tokens, row.n_common, places={"vision-image": (int(number),)})
                for number in numbers]  # fmt: skip
        small = prompt_group(seen, rows)
        return loaded.model.forward([small], Recorded(("last", "vision-image")))().states[
            "vision-image"
        ]

    grey = states(Image.new("RGB", size, (128, 128, 128)))
    for number in numbers[[0, 1, 9, 17, len(numbers) // 2, -1]]:
        x, y = (centres[number] * size).astype(int).tolist()
        painted = Image.new("RGB", size, (128, 128, 128))
        painted.putpixel((x, y), (255, 0, 0))
        change = np.abs(states(painted) - grey).max(axis=2)
        for layer in change:
            assert numbers[np.flatnonzero(layer > 1e-3 * layer.max())].tolist() == [number]
            assert layer.max() > 1e-5


def test_a_depth_picture_is_not_recorded():
    full = {"quantization": "none", "dtype": "float32", "checkpoint": str(SPATIALRGPT)}
    loaded = models.load(models.resolve("spatialrgpt", **full, options={"regions": "depth"}))
    image, depth, *_ = make_images()
    masks, states = np.ones((1, *image.size[::-1]), bool), []
    for prompt, picture in (
        ("<mask>?", loaded.processor.picture(image)),
        ("<mask> <depth>?", loaded.processor.picture(image, depth)),
    ):
        row = loaded.processor.row(picture, prompt, masks)
        group = prompt_group(picture, [replace(row, places={"vision-image": (0, 5)})])
        outputs = loaded.model.forward([group], Recorded(("last", "vision-image")))()
        states.append(outputs.states["vision-image"])
    assert states[0].shape[0] == 3 and (states[0] == states[1]).all()


@pytest.mark.parametrize(
    ("kind", "layers", "n_layers"),
    [("siglip", -2, 2), ("siglip", [0, -2], 2), ("siglip", 0, 1), ("vipllava", [-3, 1], 2),
     ("siglip", 3, None), ("vipllava", [], None)],
)  # fmt: skip
def test_blocks_behind_the_layer_that_the_projector_reads_are_not_recorded(
    tmp_path, kind, layers, n_layers
):
    checkpoint = AutoConfig.from_pretrained(WRITERS[kind](tmp_path))
    checkpoint.vision_feature_layer = layers
    if n_layers:
        assert tower_shape(checkpoint).n_layers == n_layers
        return
    with pytest.raises(ModelError, match="has none of the 2 layers of the vision tower"):
        tower_shape(checkpoint)


@pytest.mark.parametrize("kind", ["llava_next", "qwen3_vl"])
def test_a_type_without_positions_of_its_tower_says_so(tmp_path, kind):
    tiny_vlms.WRITERS[kind](tmp_path)
    with pytest.raises(ModelError, match=f"not recorded for model type '{kind}'.*leave vision out"):
        models.tower_shape(models.resolve("auto", checkpoint=str(tmp_path)))
