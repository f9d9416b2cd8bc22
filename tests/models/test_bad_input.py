"""Unusual pictures, files and prompts give the right states or a one-line error."""

import json
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny, tiny_vlms
from PIL import Image, features

from vsp import models
from vsp.errors import DatasetError, InputError, VspError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.models.contract import prompt_group
from vsp.models.pixels import pixel_values
from vsp.utils.images import open_rgb

SPATIALRGPT = Path(__file__).parent / "spatialrgpt/ckpt"
KINDS = {
    "fake": ("fake", None),
    "llava15": ("llava15", None),
    "qwen2": ("qwen2", partial(tiny.write_qwen, generation="2")),
    "spatialrgpt": ("spatialrgpt", None),
    "gemma3": ("auto", tiny_vlms.write_gemma3),
    "internvl": ("auto", tiny_vlms.write_internvl),
    "idefics3": ("auto", tiny_vlms.write_idefics3),
}
SIX = ["fake", "llava15", "qwen2", "spatialrgpt", "gemma3", "internvl"]


@pytest.fixture(scope="module")
def configs(checkpoint, tmp_path_factory):
    base = tmp_path_factory.mktemp("bad")

    def config(name):
        family, write = KINDS[name]
        folder = {"llava15": checkpoint, "spatialrgpt": SPATIALRGPT}.get(name, base / name)
        if write is not None:
            write(folder)
        full = {"quantization": "none", "dtype": "float32"}
        return models.resolve(family, checkpoint=str(folder), **full)

    return {name: config(name) for name in KINDS}


@pytest.fixture(scope="module")
def load(configs):
    loaded = {}
    return lambda name: loaded.setdefault(name, loaded.get(name) or models.load(configs[name]))


def _noise(width=40, height=24):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def _frames(path, **changes):
    noise = _noise()
    noise.save(path, save_all=True, append_images=[noise.rotate(180)], duration=40, **changes)
    return noise


def _write(kind, folder):
    """Write a file of a kind; the picture that a model should get from it."""
    noise = _noise()
    grey = noise.convert("L")
    alpha = Image.fromarray(np.arange(24 * 40, dtype=np.uint8).reshape(24, 40))
    path = folder / f"odd.{kind.partition('.')[2] or 'png'}"
    if kind == "palette":
        noise.quantize(32).save(path, transparency=bytes(range(32)))
        return path, noise.quantize(32).convert("RGB")
    if kind == "palette with one clear colour":
        noise.quantize(32).save(path, transparency=3)
        return path, noise.quantize(32).convert("RGB")
    if kind == "RGBA":
        noise.putalpha(alpha)
        noise.save(path)
        return path, _noise()
    if kind == "LA":
        Image.merge("LA", (grey, alpha)).save(path)
        return path, grey
    if kind in ("L", "1"):
        noise.convert(kind).save(path)
        return path, noise.convert(kind)
    if kind == "16 bits":
        values = np.asarray(grey).astype(np.uint16) << 8 | np.asarray(alpha)  # values below 8 bits
        Image.fromarray(values).save(path)
        return path, grey
    if kind in ("CMYK.jpg", "YCbCr.jpg", "L.jpg"):
        noise.convert(kind.partition(".")[0]).save(path, quality=95)
        with Image.open(path) as saved:  # after JPEG compression
            return path, saved.convert("RGB")
    if kind == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6  # rotated: its right side is the top
        noise.save(path, exif=exif)
        with Image.open(path) as saved:
            return path, saved.convert("RGB").transpose(Image.Transpose.ROTATE_270)
    if kind == "animation.gif":
        return path, _frames(path) and _first(path)
    if kind in ("animation.webp", "animation.png"):
        return path, _frames(path, **({"lossless": True} if kind.endswith("webp") else {}))
    width, height = map(int, kind.split("x"))
    noise.resize((width, height), Image.Resampling.NEAREST).save(path, compress_level=1)
    return path, _first(path)


def _first(path):
    with Image.open(path) as image:
        image.seek(0)
        return image.convert("RGB")


ODD = [
    "palette", "palette with one clear colour", "RGBA", "LA", "L", "1", "16 bits", "CMYK.jpg",
    "YCbCr.jpg", "L.jpg", "turned.jpg", "animation.gif", "animation.webp", "animation.png", "1x1",
    "3x3", "300x3", "3x300", "1x2000", "2000x1", "3000x2000",
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Each kind of file, with a plain RGB file of the same picture."""
    base = tmp_path_factory.mktemp("odd")
    files = {}
    for kind in ODD:
        folder = base / kind.replace(" ", "-")
        folder.mkdir()
        path, picture = _write(kind, folder)
        plain = Image.fromarray(np.asarray(picture.convert("RGB")))  # its pixels, without metadata
        plain.save(folder / "plain.png", compress_level=1)
        files[kind] = (path, folder / "plain.png")
    return files


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize(
    ("kind", "name"),
    # One large picture for each way of resizing is enough.
    [(k, n) for k in ODD for n in SIX if k != "3000x2000" or n not in ("spatialrgpt", "gemma3")],
)
def test_a_picture_of_any_kind_is_seen_as_its_plain_rgb_copy(load, odd, name, kind):
    (odd_image, _), (plain, _) = map(open_rgb, odd[kind])
    assert odd_image.size == plain.size and (np.asarray(odd_image) == np.asarray(plain)).all()
    loaded = load(name)
    if kind in ("1x2000", "2000x1") and name not in ("spatialrgpt", "fake"):
        # Resized in proportion, it would become extremely long.
        with pytest.raises(InputError, match="has an aspect ratio over 200:1; crop or pad it"):
            loaded.last_token_states([odd_image], ["Up?"])
        return
    states = loaded.last_token_states([odd_image], ["Up?"])
    expected = loaded.last_token_states([plain], ["Up?"])
    assert np.isfinite(states).all() and (states == expected).all()


@pytest.mark.parametrize("name", SIX)
def test_a_picture_of_one_colour_is_of_that_colour_in_any_size(load, name):
    """A side of 1 or 3 pixels must not be taken for the colour channels."""
    seen = []
    for size in [(60, 60), (1, 1), (3, 3), (90, 3), (3, 90), (1, 90)]:
        picture = load(name).processor.picture(Image.new("RGB", size, (200, 100, 50)))
        pixels = next(a for a in picture.arrays.values() if a.dtype.kind == "f" or a.ndim == 3)
        if picture.rule is not None:
            pixels = pixel_values(picture.rule, [pixels])
        seen.append(np.unique(pixels.round(3)).tolist())
    assert len(seen[0]) == 3 and all(values == seen[0] for values in seen)


def _png(side):
    """A PNG whose header gives this side length but which contains no pixels; checksums are valid."""
    size = side.to_bytes(4, "big") * 2
    chunks = [b"IHDR" + size + b"\x08\x02\0\0\0", b"IDAT" + zlib.compress(b""), b"IEND"]
    parts = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _damaged(kind, path):
    whole = path.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"<html>404 Not Found</html>",
        "cut": whole[: len(whole) // 2],
        "header": whole[:20],
        "overwritten": whole[:60] + bytes(200) + whole[260:],
        "no pixels": _png(0),
        "bomb": _png(20000),
    }
    path.write_bytes(damaged[kind])


BROKEN = ["empty", "text", "cut", "header", "overwritten", "no pixels", "bomb"]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_by_the_plan(work, write_dataset, configs, kind):
    folder = write_dataset(_records(["Up?", "Down?", "Left?"]))
    _damaged(kind, folder / "images/1.png")
    with pytest.raises(DatasetError, match="1 images or prompts, for 1 of 3 rows") as caught:
        plan_run(PlanRequest(folder, configs["fake"]), work)
    (detail,) = caught.value.details
    assert detail.startswith(f"image '{folder}/images/1.png' cannot be read: ")
    assert "\n" not in detail


AVIF = pytest.param(
    "avif",
    marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF"),
)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "kind", ["png", "jpg", "gif", "webp", "bmp", "tiff", "ppm", "ico", "tga", AVIF]
)
def test_whatever_bytes_are_damaged_there_is_a_picture_or_a_reason(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    _noise().save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    n_refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), rng.choice([60, 400])), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            picture, _ = open_rgb(path)
            assert picture.mode == "RGB"
        except DatasetError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            n_refused += 1
    assert n_refused > 0


def _records(prompts, same=False):
    return [
        {"id": f"r{i}", "image_filename": "0.png" if same else f"{i}.png", "label": "ab"[i % 2],
         "prompt": prompt}
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip


TEXTS = {
    "emoji": "👩‍👩‍👧 left of 🟥?",
    "combining": "e\u0301\u0323 above \u0915\u094d\u0937?",
    "right to left": "أين الدائرة الحمراء؟",
    "a mark of direction": "\u202eover\u202c it",
    "NUL": "left\0right",
    "separators": "a\u2028b\x85c\x1cd\x0ce",
    "byte order mark": "\ufeffUp?",
    "spaces around": "  Up?\n ",
    "beyond the first plane": "\U00010000 up?",
}


@pytest.mark.parametrize("name", SIX)
def test_a_prompt_in_any_script_reaches_the_model_as_it_is(
    work, write_dataset, load, configs, name
):
    prompts = ["Up?", *TEXTS.values()]
    folder = write_dataset(_records(prompts, same=True))
    run = plan_run(PlanRequest(folder, configs[name]), work).run
    extract(run, run.shards)
    rows = list(run.manifest.rows())
    assert [row.prompt for row in rows] == prompts and not run.ledgers()[0].failed
    states = np.load(run.store.path)[:, : len(prompts)]
    image, _ = open_rgb(folder / "images/0.png")
    expected = [load(name).last_token_states([image], [prompt])[:, 0] for prompt in prompts]
    assert np.abs(states - np.stack(expected, axis=1)).max() < 1e-4
    apart = np.abs(states[-1][:, None] - states[-1][None]).max(axis=2)
    assert (apart[~np.eye(len(prompts), dtype=bool)] > 1e-4).all()


@pytest.mark.parametrize("name", SIX)
def test_an_empty_prompt_has_states_of_its_own(load, name):
    prompts = ["", " ", "\n", "Up?"]
    loaded = load(name)
    states = loaded.last_token_states([_noise()] * 4, prompts)
    picture = loaded.processor.picture(_noise())
    rows = [loaded.processor.row(picture, prompt) for prompt in prompts]
    together = loaded.model.forward([prompt_group(picture, rows)])().states["last"]
    assert np.isfinite(states).all() and np.abs(states - together).max() < 1e-4
    assert len({state.tobytes() for state in states[-1]}) == 4


@pytest.mark.parametrize("prompt", ["", " ", " \n\t "])
def test_a_record_without_a_prompt_is_named(work, write_dataset, configs, prompt):
    folder = write_dataset(_records(["Up?", prompt]))
    with pytest.raises(DatasetError, match=r"record 1 has prompt .*; give it a text"):
        plan_run(PlanRequest(folder, configs["fake"]), work)


def test_a_prompt_of_nothing_right_behind_the_image_is_refused(configs):
    """Without text, the last token would be an image token."""
    config = configs["llava15"].model_copy(update={"template": "<image>{instruction}"})
    processor = models.read_processor(config)
    picture = processor.picture(_noise())
    with pytest.raises(InputError, match="the prompt is empty, and no text follows the image"):
        processor.row(picture, "")
    assert processor.row(picture, "?").tokens[:-1] == picture.tokens


@pytest.mark.parametrize(
    ("name", "field"), [*((name, "prompt") for name in SIX), ("fake", "id"), ("fake", "label")]
)
def test_half_a_character_is_refused_by_the_plan(work, write_dataset, configs, name, field):
    records = _records(["Up?", "Down?"])
    records[1][field] = "a\ud800b"
    folder = write_dataset(records)
    assert "\\ud800" in (folder / "metadata.json").read_text()
    with pytest.raises(VspError, match=r"r1|record 1") as caught:
        plan_run(PlanRequest(folder, configs[name]), work)
    "\n".join([str(caught.value), *caught.value.details]).encode()


# Tokens of the models' own. Plans are made with the first, and with two that SpatialRGPT replaces.
OWN_TOKENS = {
    "fake": ("<image>",),
    "llava15": ("<image>", "<s>", "</s>", "<pad>"),
    "qwen2": ("<|im_start|>", "<|image_pad|>", "<|vision_end|>"),
    "spatialrgpt": ("<image>", "<|eot_id|>", "<mask>", "<depth>"),
    "gemma3": ("<start_of_image>", "<image_soft_token>", "<end_of_turn>", "<bos>"),
    "internvl": ("<|im_end|>", "<img>", "<IMG_CONTEXT>", "</img>"),
    "idefics3": ("<fake_token_around_image>", "<|begin_of_text|>", "<row_1_col_2>", "<global-img>"),
}
PLANNED = [
    *((name, tokens[0]) for name, tokens in OWN_TOKENS.items()),
    *(("spatialrgpt", token) for token in OWN_TOKENS["spatialrgpt"][2:]),
]


@pytest.mark.parametrize(("name", "token"), PLANNED)
def test_a_prompt_with_a_token_of_the_models_own_is_named_by_the_plan(
    work, write_dataset, configs, name, token
):
    folder = write_dataset(_records(["Up?", f"Is it {token} or not?", "Down?"]))
    with pytest.raises(DatasetError, match="1") as caught:
        plan_run(PlanRequest(folder, configs[name]), work)
    (line,) = caught.value.details or [str(caught.value)]
    assert "r1" in line and token in line


@pytest.mark.parametrize("name", OWN_TOKENS)
def test_the_tokens_of_a_models_own_are_found_in_a_prompt(configs, name):
    processor = models.read_processor(configs[name])
    assert processor.reserved("Is it left or not?") is None
    found = [processor.reserved(f"Is it {token} or not?") for token in OWN_TOKENS[name]]
    assert found == list(OWN_TOKENS[name])


@pytest.mark.parametrize("name", ["llava15", "qwen2", "spatialrgpt", "gemma3", "internvl"])
def test_a_prompt_longer_than_the_context_is_named_by_the_plan(work, write_dataset, configs, name):
    folder = write_dataset(_records(["Up?", "far " * 5000, "Down?"]))
    with pytest.raises(DatasetError, match="1 images or prompts, for 1 of 3 rows") as caught:
        plan_run(PlanRequest(folder, configs[name]), work)
    (detail,) = caught.value.details
    assert detail.startswith("row 'r1': prompt and image make") and "over the context of" in detail


def test_ten_thousand_digits_in_the_metadata_are_one_line(work, write_dataset, configs):
    folder = write_dataset(_records(["Up?", "Down?"]))
    text = json.dumps(_records(["Up?", "Down?"])).replace('"r1"', "9" * 10000)
    (folder / "metadata.json").write_text(text)
    with pytest.raises(DatasetError, match="is not JSON"):
        plan_run(PlanRequest(folder, configs["fake"]), work)
