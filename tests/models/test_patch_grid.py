"""Where image tokens lie in an image: arithmetic by hand, and what a vision tower reads there.

`test_supported.py` has the families of transformers.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.painted import reacting_tokens, without_attention
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vsp import models
from vsp.errors import InputError
from vsp.models.patch_grid import PatchGrid, cropped, join_pairs, padded, stretched
from vsp.models.pixels import picture_inputs

CPU = torch.device("cpu")
SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt"


def test_cells_of_a_stretched_image_are_equal_shares_row_by_row():
    expected = [[1 / 6, 1 / 4], [3 / 6, 1 / 4], [5 / 6, 1 / 4],
                [1 / 6, 3 / 4], [3 / 6, 3 / 4], [5 / 6, 3 / 4]]  # fmt: skip
    assert np.allclose(stretched(42, 28).centres(14), expected)


def test_pixels_behind_the_last_whole_cell_have_no_token():
    assert np.allclose(stretched(20, 20).centres(14), [[7 / 20, 7 / 20]])


def test_cells_of_a_cropped_image_are_in_its_middle():
    # 100 × 28 pixels, of which the columns 36 to 63 are seen.
    x, y = cropped((100, 28), (28, 28)).centres(14).T
    assert np.allclose(x, [0.43, 0.57, 0.43, 0.57]) and np.allclose(y, [0.25, 0.25, 0.75, 0.75])


def test_cells_of_a_border_lie_outside_the_image():
    # 100 × 50 pixels in a square of 100, resized to 40: the image has the rows 10 to 29.
    y = padded((100, 50), 40).centres(10)[:, 1].reshape(4, 4)
    assert np.allclose(y.T, [-0.25, 0.25, 0.75, 1.25])


def test_joined_cells_go_column_by_column_and_an_odd_side_has_smaller_ones():
    centres = stretched(30, 30).centres(10)  # 1/6, 3/6, 5/6
    x = [1 / 3, 1 / 3, 5 / 6, 5 / 6]
    assert np.allclose(join_pairs(centres), np.transpose([x, [1 / 3, 5 / 6, 1 / 3, 5 / 6]]))


class _Checkpoint:
    model_type = "llava"

    class vision_config:  # noqa: N801
        patch_size = 14


@pytest.mark.parametrize(
    "images",
    [
        CLIPImageProcessorPil(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}),
        CLIPImageProcessorPil(size={"shortest_edge": 35}, crop_size={"height": 42, "width": 42}),
        CLIPImageProcessorPil(size={"height": 42, "width": 42}, do_center_crop=False),
        LlavaImageProcessorPil(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42},
                               do_pad=True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(97, 60), (60, 97), (55, 55)])
def test_a_ramp_has_the_value_of_its_place_in_each_cell(images, size):
    """The mean of a cell of pixels tells where the cell is, if pixels are brighter to the right."""
    across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    ramps = np.stack([across, down, 0 * down], axis=2).astype(np.uint8)
    seen = images(
        images=[Image.fromarray(ramps)], do_normalize=False, do_rescale=False,
        resample=Image.Resampling.BILINEAR,
    )["pixel_values"][0]  # fmt: skip
    cells = seen[:2].reshape(2, 3, 14, 3, 14).mean(axis=(2, 4)).reshape(2, 9).T
    centres = PatchGrid(_Checkpoint, images).centres({}, size, 9)
    whole = ((np.abs(centres - 0.5) + 7 / 42 * 1.2) < 0.5).all(axis=1)  # no cell at a border
    assert whole.any()
    assert np.abs(cells[whole] + 0.5 - centres[whole] * size).max() < 1.2  # pixels


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"do_pad": True, "pad_size": {"height": 9, "width": 9}}, "does not know how CLIPImage"),
        ({"size": {"shortest_edge": 20, "longest_edge": 42}}, "its images are resized to"),
        ({"size": {"shortest_edge": 56}, "do_center_crop": False}, "9 tokens stand for 20 cells"),
    ],
)
def test_an_image_processor_that_places_images_otherwise_has_no_grid(changes, reason):
    images = CLIPImageProcessorPil(**changes)
    with pytest.raises(InputError, match=f"'llava' have no grid here: .*{reason}"):
        PatchGrid(_Checkpoint, images).centres({}, (70, 56), 9)


def test_llava_reads_a_point_in_the_token_of_its_place(checkpoint):
    loaded = models.load(models.resolve("llava15", checkpoint=str(checkpoint), quantization="none"))
    base = without_attention(loaded.model._base)

    def features(image):
        inputs = picture_inputs([loaded.processor.picture(image)], CPU, torch.float32)
        with torch.inference_mode():
            return torch.cat(list(base.get_image_features(**inputs).pooler_output))

    # 8 × 8 tokens of 14 pixels; of 224 × 112 pixels, the columns 56 to 167 are seen.
    centres = loaded.processor.patch_centres(loaded.processor.picture(_grey(224, 112)), (224, 112))
    for x, y, token in [(57, 1, 0), (56 + 14 * 3 + 7, 14 * 2 + 7, 19), (166, 110, 63)]:
        assert reacting_tokens(features, (224, 112), (x, y)) == [token]
        assert (np.abs(centres[token] * (224, 112) - (x + 0.5, y + 0.5)) < 7).all()


@pytest.mark.parametrize("aspect", ["resize", "pad"])
@pytest.mark.parametrize("kind", ["mlp_downsample", "linear"])
def test_spatialrgpt_reads_a_point_in_the_token_of_its_place(tmp_path, aspect, kind):
    folder = Path(shutil.copytree(SPATIALRGPT, tmp_path / "ckpt"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_aspect_ratio": aspect}))
    if kind == "linear":
        _write_linear_projector(folder / "mm_projector")
    loaded = models.load(
        models.resolve("spatialrgpt", checkpoint=str(folder), quantization="none", dtype="float32")
    )
    without_attention(loaded.model._tower)
    size = (500, 400)

    def features(image):
        pixels = picture_inputs([loaded.processor.picture(image)], CPU, torch.float32)["pixels"]
        with torch.inference_mode():
            return loaded.model._encode(pixels)[0][0]

    picture = loaded.processor.picture(_grey(*size))
    centres = loaded.processor.patch_centres(picture, size)
    assert (
        len(centres) == len(loaded.processor.image_places(picture)) == len(features(_grey(*size)))
    )
    inside = np.flatnonzero(((centres > 0) & (centres < 1)).all(axis=1))
    for token in inside[[0, 1, len(inside) // 3, -1]]:
        x, y = (centres[token] * size).astype(int).tolist()
        assert reacting_tokens(features, size, (x, y)) == [token]


def _grey(width, height):
    return Image.new("RGB", (width, height), (128, 128, 128))


def _write_linear_projector(folder):
    from safetensors.torch import save_file

    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.manual_seed(0)
    config = json.loads((SPATIALRGPT / "vision_tower/config.json").read_text())
    width = config["hidden_size"]
    weights = {"layers.weight": torch.randn(64, width), "layers.bias": torch.zeros(64)}
    save_file(weights, folder / "model.safetensors")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mm_projector_type": "linear"}))
