"""The forms in which a row's question can be put to a model.

A form is chosen when a run is planned and is part of its identity. `{subject}`, `{reference}`,
`{shape}` come from the dataset's record, `{labels}` from the dataset's labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from vsp.errors import ConfigError

DATASET = "dataset"  # the prompt that the record itself carries

# The first three, in this order, are the statement templates that `prompt_template_index` counts.
SPATIAL = {
    "statement": "The spatial relationship of {subject} to {reference} is",
    "cloze": "Considering the image, the {subject} is positioned ___ the {reference}. The answer is",
    "question": "Where is the {subject} relative to the {reference}? The {subject} is",
    "instruction": (
        "Determine the spatial relationship of '{subject}' relative to '{reference}'.\n"
        "Choose ONE label from:\n[{labels}]\nRespond with ONLY the label. No explanation."
    ),
}
COLOR = {
    "statement": "The color of the {shape} is",
    "cloze": "Considering the image, the color of the {shape} is ___. The answer is",
    "question": "What color is the {shape}? The {shape} is",
    "instruction": (
        "Determine the color of the '{shape}'.\n"
        "Choose ONE label from:\n[{labels}]\nRespond with ONLY the label. No explanation."
    ),
}
STYLES = (*SPATIAL, DATASET)
N_STATEMENTS = 3


def statement(forms: Mapping[str, str], index: int) -> str:
    """The template that `prompt_template_index` names."""
    return forms[list(forms)[index]]


def words(label: str) -> str:
    """A label as it stands in a prompt: `left_of` → `left of`."""
    return label.replace("_", " ")


def render(template: str, fields: Mapping[str, str], labels: Sequence[str] = ()) -> str:
    """Fill a template. Raises ConfigError if the template needs a field that is not there."""
    try:
        return template.format(**fields, labels=_listed(tuple(labels)))
    except KeyError as missing:
        raise ConfigError(
            f"prompt {template!r} needs {missing}; the dataset gives {', '.join(fields) or 'none'}"
        ) from None


@lru_cache(16)
def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(map(words, labels))
