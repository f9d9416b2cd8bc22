"""Values of options that the command line and the plan of a run share; needs no other package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

DEFAULT_PROBE: Final = "logistic"
LAST: Final = "last"  # the last token of the prompt, which every run records
# Where in a prompt states are recorded. Names are read at their last token; image and boxes are means
# over image tokens.
Position = Literal["last", "subject", "reference", "image", "subject-box", "reference-box"]
POSITIONS: tuple[Position, ...] = get_args(Position)
# Modules ahead of the decoder whose states can be recorded too, at the image and in boxes.
Module = Literal["vision", "projector"]
MODULES: tuple[Module, ...] = get_args(Module)
_OF_IMAGE: tuple[Position, ...] = ("image", "subject-box", "reference-box")
# All positions that a run can have; those of a module begin with its name: vision-image.
STORED_POSITIONS = (*POSITIONS, *(f"{module}-{one}" for module in MODULES for one in _OF_IMAGE))
ALL: Final = "all"  # each position that a run has, one after the other
# How an answer option joins the prompt; auto: by the end of the template.
Start = Literal["auto", "space", "none", "space-capital", "none-capital"]
STARTS: tuple[Start, ...] = get_args(Start)
# The score of an option by which the model's own answer is chosen; see vsp.evaluation.answers.
AnswerScore = Literal["total", "per-token", "per-character", "corrected"]
ANSWER_SCORES: tuple[AnswerScore, ...] = get_args(AnswerScore)
# The last entry of stored states: after the model's final norm, before it, or not known.
LastLayer = Literal["normed", "raw", "unknown"]
LAST_LAYERS: tuple[LastLayer, ...] = get_args(LastLayer)
# The model families of vsp itself, for shell completion; vsp.models takes longer to import.
MODEL_FAMILIES = ("auto", "fake", "llava15", "qwen2", "spatialrgpt")
# The rows and the formats of `vsp export`.
RowChoice = Literal["done", "train", "val", "test"]
ROW_CHOICES: tuple[RowChoice, ...] = get_args(RowChoice)
ExportFormat = Literal["npz", "safetensors", "parquet"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
# The rows that `vsp report --rows` lists, by whether the probe and the model's own answer are right.
ROW_KINDS = ("knows-not-says", "says-not-knows", "all")


def module_positions(modules: Sequence[str], positions: Sequence[str]) -> tuple[str, ...]:
    """The positions of modules in a run with `positions`: the image if it has neither image nor box."""
    named = [position for position in _OF_IMAGE if position in positions] or ["image"]
    return tuple(f"{module}-{position}" for module in modules for position in named)


def split_position(position: str) -> tuple[str, str]:
    """Module and place: `vision-image` → `vision`, `image`. The module of the decoder is empty."""
    module, _, place = position.partition("-")
    return (module, place) if module in MODULES else ("", position)


def position_words(position: str) -> str:
    """A position in words: `vision-subject-box` → `vision tower, mean over the subject's box`."""
    module, place = split_position(position)
    ahead = {"vision": "vision tower, ", "projector": "projector's output, "}.get(module, "")
    words = {
        LAST: "last token",
        "subject": "last token of the subject",
        "reference": "last token of the reference",
        "image": "mean over the image",
        "subject-box": "mean over the subject's box",
        "reference-box": "mean over the reference's box",
    }
    return ahead + words.get(place, place)
