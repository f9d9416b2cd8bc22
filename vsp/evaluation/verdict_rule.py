"""The rule by which evidence becomes a verdict; docs/statistics.md has it as a table."""

from __future__ import annotations

from collections.abc import Mapping

from vsp.evaluation.verdict_evidence import Evidence, VerdictName

_OTHER_WORDS = ("names", "shuffled")  # variants without the picture of the row, besides blank
_TURNED = ("mirrored", "swapped")
_NO = {
    "chance": "the score is no more than chance",
    "blank": "blank pictures give the same score",
    "names": "the names alone give the same score",
    "shuffled": "other pictures give the same score",
    "mirrored": "predictions do not follow mirrored pictures",
    "swapped": "predictions do not follow swapped names",
}
_OPEN = {
    "chance": "the score is not clearly above chance",
    "blank": "the score is not clearly above that of blank pictures",
    "names": "the score is not clearly above that of the names alone",
    "shuffled": "the score is not clearly above that of other pictures",
    "mirrored": "predictions do not clearly follow mirrored pictures",
    "swapped": "predictions do not clearly follow swapped names",
}
_SAME = "predictions are the same without the picture"


def decide(evidence: Mapping[str, Evidence]) -> tuple[VerdictName, str]:
    """The verdict, and the clause that says why."""
    found = {question: one.finding for question, one in evidence.items()}
    blank, changed = found.get("blank"), found.get("changed")
    by_words = blank == "no" or (found.get("names") == "no" and blank != "yes")
    if found.get("mirrored") == "yes" and (by_words or changed == "no"):
        return "undecided", (
            "the words give the score, but predictions follow mirrored pictures; rows whose words "
            "mislead would decide"
        )
    if by_words and found.get("chance") == "yes":
        same = f", and {_SAME}" if changed == "no" else ""
        return "words alone", _NO["blank" if blank == "no" else "names"] + same
    if changed == "no" and blank != "yes":
        above = found.get("chance") == "yes"
        return "prior", _SAME + ("" if above else ", and the score is not shown to be above chance")
    obstacles = _obstacles(evidence)
    if obstacles:
        return "undecided", "; ".join(obstacles)
    followed = [name for name in _TURNED if found[name] == "yes"]
    if not followed:
        return "undecided", "no label changes if pictures are mirrored or names swapped"
    turned = {"mirrored": "mirrored pictures", "swapped": "swapped names"}
    return "grounded", (
        "the score falls without the picture, and predictions follow "
        + " and ".join(turned[name] for name in followed)
    )


def _obstacles(evidence: Mapping[str, Evidence]) -> list[str]:
    """Why the verdict is not "grounded": evidence that is missing, open or against it."""
    obstacles = []
    for question in ("chance", "blank", *_OTHER_WORDS, *_TURNED):
        one = evidence.get(question)
        if one is None or one.finding == "missing":
            if question not in _OTHER_WORDS:  # these two are extra
                obstacles.append(f"{question}: {one.why if one and one.why else 'no such run'}")
        elif one.finding == "no":
            obstacles.append(_NO[question])
        elif one.finding == "open":
            obstacles.append(_OPEN[question])
    return obstacles
