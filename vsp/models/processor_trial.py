"""Tries a checkpoint's processor on one small picture, in a process with limits.

A checkpoint's files can ask for pictures of 100,000 × 100,000 pixels, a billion image tokens, or a
regular expression that does not end. The libraries do what the files say, and cannot be interrupted.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vsp.config import ModelConfig
from vsp.errors import InputError, ModelError, VspError
from vsp.models.contract import Processor
from vsp.utils.limits import FailedError, LimitError, run_limited

_SIDE = 64  # pixels
_PROMPT = "Where is it?"
# Regular expressions that end badly do so on repeated letters before another one.
_REPEATS = f"{'a' * 40} {'1' * 40} {'.' * 40}!"


def try_processor(config: ModelConfig, processor: Processor) -> None:
    """Raise ModelError unless the processor prepares a small picture and a prompt, within limits."""
    try:
        problem = run_limited(lambda: _problem(processor))
    except LimitError as error:
        problem = (
            f"its tokenizer or image processor {error} for a picture of {_SIDE} × {_SIDE} pixels"
        )
    except FailedError:  # an error of vsp, or of a family: it keeps its traceback
        problem = _problem(processor)
    if problem:
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: {problem}; correct the files of its tokenizer and image "
            "processor, or use another checkpoint"
        )


def _problem(processor: Processor) -> str:
    """Why the processor cannot be used; "" if it can."""
    try:
        picture = processor.picture(Image.new("RGB", (_SIDE, _SIDE)))
        processor.row(picture, _PROMPT)
    except VspError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        return str(error)
    try:
        processor.row(picture, _REPEATS)
    except InputError:
        pass  # longer than the model's context
    except ModelError as error:
        return str(error)
    floats = [array for array in picture.arrays.values() if array.dtype.kind == "f"]
    if picture.rule is not None:
        floats.append(picture.rule.table)
    if not all(np.isfinite(array).all() for array in floats):
        return "its image processor gives pixel values that are not finite numbers"
    return ""
