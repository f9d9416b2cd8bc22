"""Pictures as bytes: the inputs of the vision tower are those of the image processors, bit by bit."""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from vsp import models
from vsp.extraction.extract import most_workers
from vsp.models.contract import Picture, prompt_group
from vsp.models.pixels import byte_pictures, look_up, n_values, pixel_tensor, pixel_values

SIDES = (1, 3, 31, 56, 57, 90, 233, 480)


def _clip(**settings):
    size = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    return CLIPImageProcessorPil(**{**size, **settings})


PROCESSORS = {
    "CLIP": _clip(),
    "CLIP, crop over the picture": _clip(crop_size={"height": 71, "width": 40}),
    "CLIP, not normalised": _clip(do_normalize=False),
    "SigLIP": SiglipImageProcessorPil(size={"height": 56, "width": 42}),
    "Gemma 3": Gemma3ImageProcessorPil(size={"height": 56, "width": 56}),
    "Qwen2-VL": Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 30),
    "Qwen3-VL": Qwen2VLImageProcessorPil(patch_size=16, min_pixels=64 * 64, max_pixels=32 * 32 * 9),
}


def _pictures():
    rng = np.random.default_rng(1)
    sizes = [(w, h) for w in SIDES for h in SIDES if max(w, h) < 100 * min(w, h)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def _whole(images):
    return lambda image: images(images=image, return_tensors="np")


@pytest.mark.parametrize("name", PROCESSORS)
def test_bytes_and_table_give_the_values_of_the_processor_for_any_size(name):
    images = PROCESSORS[name]
    quick = byte_pictures(images, _whole(images))
    for image in _pictures():
        expected = _whole(images)(image)["pixel_values"]
        prepared = quick(image)
        assert prepared.dtype == np.uint8 and prepared.ndim == 3
        assert pixel_values(quick.rule, [prepared]).tobytes() == expected.tobytes()
        assert n_values(Picture({"p": prepared}, (), {}, ("", ""), quick.rule)) == expected.size


@pytest.mark.parametrize("name", ["CLIP", "Qwen2-VL"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_looks_up_what_the_host_does_for_several_pictures(name, dtype):
    images = PROCESSORS[name]
    quick = byte_pictures(images, _whole(images))
    several = _pictures()[20:30]
    prepared = [quick(image) for image in several]
    arrays = [_whole(images)(image)["pixel_values"] for image in several]
    expected = torch.from_numpy(np.concatenate(arrays)).to(dtype)
    for way in (pixel_tensor, look_up):
        found = way(quick.rule, prepared, torch.device("cpu"), dtype)
        assert found.dtype == dtype and found.is_contiguous() and torch.equal(found, expected)


class _Darker(CLIPImageProcessorPil):
    """An image processor with a step that the table does not know."""

    def preprocess(self, images, **settings):
        return super().preprocess(images.point(lambda byte: byte // 2), **settings)


@pytest.mark.parametrize(
    "images",
    [
        _clip(do_resize=False),
        _clip(do_pad=True, pad_size={"height": 80, "width": 80}),
        _clip(do_rescale=False, do_normalize=False),
        _Darker(),
        Gemma3ImageProcessorPil(do_pan_and_scan=True),
        Idefics2ImageProcessorPil(),
        object(),
    ],
    ids=lambda images: type(images).__name__,
)
def test_a_processor_with_other_steps_is_left_alone(images):
    assert byte_pictures(images, _whole(images)) is None


def test_settings_that_only_the_whole_processor_knows_are_found_by_the_trial():
    images, other = _clip(), _clip(image_mean=[0.5, 0.5, 0.4999999])
    assert byte_pictures(images, _whole(images)) is not None
    assert byte_pictures(images, _whole(other)) is None
    assert byte_pictures(images, _whole(_clip(resample=Image.Resampling.BILINEAR))) is None


def test_spatialrgpt_gets_the_values_of_its_image_processor_for_picture_and_depth():
    folder = Path(__file__).parent / "spatialrgpt/ckpt"
    config = models.resolve(
        "spatialrgpt", checkpoint=str(folder), quantization="none", dtype="float32"
    )
    loaded = models.load(config)
    rng = np.random.default_rng(0)
    image, depth = (Image.fromarray(rng.integers(0, 256, (70, 91, 3), np.uint8)) for _ in range(2))
    picture = loaded.processor.picture(image, depth)
    assert {array.dtype for array in picture.arrays.values()} == {np.dtype(np.uint8)}
    values = {name: pixel_values(picture.rule, [array]) for name, array in picture.arrays.items()}
    pixels = loaded.processor._pixels
    for name, one in (("pixels", image), ("depth", depth)):
        expected = pixels(images=one, return_tensors="np")["pixel_values"]
        assert values[name].tobytes() == expected.tobytes()
    regions = np.zeros((1, 70, 91), bool)
    regions[0, 10:40, 20:60] = True
    row = loaded.processor.row(picture, "What is <mask> <depth>?", regions)
    states = [
        loaded.model.forward([prompt_group(one, [row])])().states["last"]
        for one in (picture, replace(picture, arrays=values, rule=None))
    ]
    assert states[0].tobytes() == states[1].tobytes()


def test_the_prompt_is_tokenised_once_a_size(checkpoint):
    config = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    processor = models.read_processor(config)
    first = processor.picture(Image.new("RGB", (80, 60)))
    called = []
    processor._whole_picture = called.append
    for size in [(80, 60), (300, 200), (41, 400)]:  # all are cropped to one size
        picture = processor.picture(Image.new("RGB", size, "red"))
        assert (picture.tokens, picture.around) == (first.tokens, first.around)
        assert picture.arrays["pixel_values"].any() and not first.arrays["pixel_values"].any()
    assert not called


def test_one_worker_is_never_chosen_and_the_process_keeps_a_core():
    assert [most_workers(n_cores, 10**6) for n_cores in (1, 2, 3, 4, 64)] == [0, 0, 2, 3, 8]
    assert [most_workers(64, n_batches) for n_batches in (0, 31, 32, 64)] == [0, 0, 2, 4]


FAULTS = """
import resource
import numpy as np
from vsp.utils.allocator import keep_freed_blocks

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [np.ones(1 << 20, np.uint8) for _ in range(40)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_blocks(1 << 16)
returned = faults()
keep_freed_blocks()
faults()
print(returned, faults())
"""


def test_freed_blocks_of_the_size_of_pictures_are_kept():
    command = [sys.executable, "-c", FAULTS]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    returned, kept = map(int, answer.stdout.split())
    pages = 10 * (40 << 20) // resource.getpagesize()
    assert returned > 0.9 * pages and kept < 0.1 * pages
