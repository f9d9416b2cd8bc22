"""Prepares pictures as bytes; their rescaling and normalisation are done where the model runs.

An image processor that resizes, crops, rescales and normalises computes each value from one byte of
the resized picture. So a worker resizes and crops with Pillow and passes on the bytes, which are a
quarter of the values, and a table with a value for each byte and channel replaces the arithmetic.
The values are equal to the processor's to the last bit: `byte_pictures` compares them on trial
pictures and returns None for a processor that gives others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsp.models.contract import Patches, Picture, PixelRule

if TYPE_CHECKING:
    import torch

PIXELS = "pixel_values"  # the name that image processors give to their pixels
# Width and height of the trial pictures: odd sides, both orientations, enlarged and reduced.
_TRIAL_SIZES = ((61, 33), (40, 97), (640, 301))
_GREY = (119, 119, 119)
# Methods of transformers' image processors that decide about the values.
_STEPS = ("process_image", "resize", "center_crop", "rescale", "normalize", "_preprocess")


def pixel_values(rule: PixelRule, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The input made of `pictures`, in numpy."""
    parts = []
    for same in _stacks(pictures):
        units = _units(same, rule.patches)
        values = np.empty(units.shape, np.float32)
        for unit, of_unit in zip(units, values, strict=True):
            for channel, table in enumerate(rule.table):
                # All bytes are valid; in another mode, numpy would copy the output.
                np.take(table, unit[channel], out=of_unit[channel], mode="wrap")
        parts.append(values if rule.patches is None else _repeat(values, rule.copies))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _repeat(values: NDArray[np.float32], n_copies: int) -> NDArray[np.float32]:
    """Values [patch, copy of the patch and pixel] of patches [patch, channel, side, side]."""
    return np.repeat(values[:, :, None], n_copies, axis=2).reshape(len(values), -1)


def pixel_tensor(
    rule: PixelRule, pictures: Sequence[NDArray[np.uint8]], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """The input made of `pictures` in the model's dtype; a GPU gets bytes and looks them up."""
    import torch

    if device.type == "cpu":
        return torch.from_numpy(pixel_values(rule, pictures)).to(dtype)
    return look_up(rule, pictures, device, dtype)


def look_up(
    rule: PixelRule, pictures: Sequence[NDArray[np.uint8]], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """`pixel_tensor` on a device that is not the CPU: the host copies bytes only."""
    import torch

    from vsp.models.device_copies import copy_to_device

    table = copy_to_device(rule.table, device).to(dtype)
    parts = []
    for same in _stacks(pictures):
        units = _units(copy_to_device(same, device), rule.patches)
        values = torch.empty((*units.shape[:2], rule.copies, *units.shape[2:]), dtype=dtype,
                             device=device)  # fmt: skip
        for channel, row in enumerate(table):
            of_channel = units[:, channel]
            found = row.index_select(0, of_channel.reshape(-1).int()).view(of_channel.shape)
            values[:, channel] = found[:, None]
        parts.append(values[:, :, 0] if rule.patches is None else values.flatten(1))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _stacks(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Neighbours of one shape as one array [picture, height, width, channel]."""
    return [np.stack(list(same)) for _, same in groupby(pictures, key=np.shape)]


def _units(stack: Any, patches: Patches | None) -> Any:
    """Bytes [picture or patch, channel, row, column] of an array or tensor of pictures."""
    if patches is None:
        return _permuted(stack, (0, 3, 1, 2))
    n, height, width, n_channels = stack.shape
    side, merged = patches.side, patches.merged
    grid = [n, height // side // merged, merged, side, width // side // merged, merged, side]
    units = _permuted(stack.reshape(*grid, n_channels), (0, 1, 4, 2, 5, 7, 3, 6))
    return units.reshape(-1, n_channels, side, side)


def _permuted(stack: Any, axes: tuple[int, ...]) -> Any:
    return stack.transpose(axes) if isinstance(stack, np.ndarray) else stack.permute(axes)


@dataclass(frozen=True, slots=True)
class BytePictures:
    """Resizes and crops pictures as an image processor does, and stops there."""

    rule: PixelRule
    _target: Callable[[int, int], tuple[int, int]]  # (height, width) → those after resizing
    _resample: int
    _crop: tuple[int, int] | None  # height and width

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Bytes [height, width, channel]."""
        height, width = self._target(image.height, image.width)
        # In one call: Pillow chooses whether rows or columns come first, and rounds after both.
        resized = image.resize((width, height), self._resample)
        if self._crop is not None:
            crop_height, crop_width = self._crop
            top, left = (height - crop_height) // 2, (width - crop_width) // 2
            resized = resized.crop((left, top, left + crop_width, top + crop_height))
        return np.asarray(resized)


def byte_pictures(
    images: Any, whole: Callable[[Image.Image], Mapping[str, NDArray[Any]]], name: str = PIXELS
) -> BytePictures | None:
    """Prepares pictures as the image processor `images` does; None if it does other things.

    `whole` gives the inputs that the checkpoint's processor makes of a picture; `name` is that of
    the pixels.
    """
    target = _target(images)
    if target is None or not images.do_resize or images.do_pad:
        return None
    trials = trial_pictures()
    wholes = [whole(trial) for trial in trials]  # first: it says what is wrong with the settings
    table = _table(images)
    if table is None:
        return None
    crop = images.crop_size if getattr(images, "do_center_crop", False) else None
    quick = BytePictures(
        PixelRule(table, _patches(images)),
        target,
        Image.Resampling.BILINEAR if images.resample is None else images.resample,
        crop and (crop["height"], crop["width"]),
    )
    same = (_equal(quick, t, w, name) for t, w in zip(trials, wholes, strict=True))
    return quick if all(same) else None


def trial_pictures() -> list[Image.Image]:
    """Pictures with all byte values in each channel, in odd sizes, and a grey one."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in _TRIAL_SIZES]
    return [*map(Image.fromarray, noise), Image.new("RGB", _TRIAL_SIZES[0], _GREY)]


def _equal(
    quick: BytePictures, trial: Image.Image, whole: Mapping[str, NDArray[Any]], name: str
) -> bool:
    """Whether both ways give the same pixels, to the last bit."""
    expected, found = whole.get(name), pixel_values(quick.rule, [quick(trial)])
    if expected is None or expected.dtype != np.float32 or expected.shape != found.shape:
        return False
    return expected.tobytes() == found.tobytes()


def _target(images: Any) -> Callable[[int, int], tuple[int, int]] | None:
    """The size that an image processor resizes to; None for processors with other steps."""
    from transformers.image_processing_backends import PilBackend
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as qwen

    kind = type(images)
    size: Any = getattr(images, "size", None)
    if kind is qwen.Qwen2VLImageProcessorPil:
        settings = {
            "factor": images.patch_size * images.merge_size,
            "min_pixels": size.shortest_edge,
            "max_pixels": size.longest_edge,
        }
        return lambda height, width: qwen.smart_resize(height, width, **settings)
    plain = isinstance(images, PilBackend) and all(
        getattr(kind, step) is getattr(PilBackend, step) for step in _STEPS
    )
    unsplit = kind is Gemma3ImageProcessorPil and not images.do_pan_and_scan
    if not plain and not unsplit:
        return None
    if size.shortest_edge and not size.longest_edge:
        return lambda height, width: _by_shortest_edge(height, width, size.shortest_edge)
    if size.height and size.width and not size.shortest_edge and not size.max_height:
        return lambda height, width: (size.height, size.width)
    return None


def _by_shortest_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Height and width with a shorter side of `edge`; the longer side is rounded down."""
    longer = int(edge * max(height, width) / min(height, width))
    return (longer, edge) if width <= height else (edge, longer)


def _patches(images: Any) -> Patches | None:
    if not hasattr(images, "temporal_patch_size"):
        return None
    return Patches(images.patch_size, images.merge_size, images.temporal_patch_size)


def _table(images: Any) -> NDArray[np.float32] | None:
    """The value [channel, byte] of each byte; None if it is no float32."""
    values: NDArray[Any] = np.tile(np.arange(256, dtype=np.uint8), (3, 1, 1))
    if images.do_rescale:
        values = images.rescale(values, images.rescale_factor)
    if images.do_normalize:
        values = images.normalize(values, images.image_mean, images.image_std)
    return np.ascontiguousarray(values[:, 0]) if values.dtype == np.float32 else None


def n_values(picture: Picture) -> int:
    """Number of values that the vision tower gets of a picture."""
    copies = picture.rule.copies if picture.rule else 1
    return sum(
        array.size * (copies if array.dtype == np.uint8 else 1)
        for array in picture.arrays.values()
        if array.dtype == np.uint8 or array.dtype.kind == "f"
    )


def picture_inputs(
    pictures: Sequence[Picture], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The inputs of several pictures by name, one behind the other, on the device."""
    return {name: picture_input(pictures, name, device, dtype) for name in pictures[0].arrays}


def picture_input(
    pictures: Sequence[Picture], name: str, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    from vsp.models.loading import to_device

    arrays, rule = [picture.arrays[name] for picture in pictures], pictures[0].rule
    if rule is not None and arrays[0].dtype == np.uint8:
        return pixel_tensor(rule, arrays, device, dtype)
    return to_device(_join(arrays), device, dtype)


def _join(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate along the first axis.

    Other axes are padded with zeros to the longest, as processors pad tiles.
    """
    if arrays[0].ndim < 2:
        return np.concatenate(arrays)
    longest = np.max([array.shape[1:] for array in arrays], axis=0)
    return np.concatenate([_pad_to(array, longest) for array in arrays])


def _pad_to(array: NDArray[Any], longest: Any) -> NDArray[Any]:
    if array.shape[1:] == tuple(longest):
        return array
    return np.pad(
        array, [(0, 0), *((0, n - m) for n, m in zip(longest, array.shape[1:], strict=True))]
    )
