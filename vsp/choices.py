"""Values of options that the command line and the plan of a run share; needs no other package."""

from __future__ import annotations

from typing import Final, Literal, get_args

LAST: Final = "last"  # the last token of the prompt, which every run records
# Where in a prompt states are recorded. Names are read at their last token; image and boxes are means
# over image tokens.
Position = Literal["last", "subject", "reference", "image", "subject-box", "reference-box"]
POSITIONS: tuple[Position, ...] = get_args(Position)
# How an answer option joins the prompt; auto: by the end of the template.
Start = Literal["auto", "space", "none", "space-capital", "none-capital"]
STARTS: tuple[Start, ...] = get_args(Start)
# The score of an option by which the model's own answer is chosen; see vsp.evaluation.answers.
AnswerScore = Literal["total", "per-token", "per-character", "corrected"]
ANSWER_SCORES: tuple[AnswerScore, ...] = get_args(AnswerScore)
# The rows that `vsp report --rows` lists, by whether the probe and the model's own answer are right.
ROW_KINDS = ("knows-not-says", "says-not-knows", "all")


def position_words(position: str) -> str:
    """A position in words: `subject-box` → `mean over the subject's box`."""
    words = {
        LAST: "last token",
        "subject": "last token of the subject",
        "reference": "last token of the reference",
        "image": "mean over the image",
        "subject-box": "mean over the subject's box",
        "reference-box": "mean over the reference's box",
    }
    return words.get(position, position)
