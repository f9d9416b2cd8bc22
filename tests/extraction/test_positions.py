"""Where positions are: the last token of a name, all image tokens, and those in a box."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsp import models
from vsp.datasets.names import named_prompt
from vsp.errors import InputError
from vsp.extraction.positions import places_of
from vsp.storage.manifest import Sample

SPATIALRGPT = Path(__file__).parents[1] / "models/spatialrgpt/ckpt"
SIZE = (224, 112)  # the small LLaVA sees the columns 56 to 167, as 8 × 8 tokens of 14 pixels
PROMPT = "Is the red circle left of the blue star?"


def _sample(prompt=PROMPT, **changes):
    names = {"subject": "red circle", "reference": "blue star", **changes}
    named = named_prompt(prompt, tuple((part, names[part]) for part in ("subject", "reference")))
    spans = {"subject_span": named.subject, "reference_span": named.reference}
    fields = {**spans, **names}
    return Sample(id="a", image="a.png", prompt=prompt, label="l", group="g", **fields)


@pytest.fixture(scope="module")
def places(checkpoint):
    """The places of positions of a sample, as numbers of image tokens or as texts."""
    processor = models.read_processor(models.resolve("llava15", checkpoint=str(checkpoint)))
    picture = processor.picture(Image.new("RGB", SIZE))
    first = processor.image_places(picture)[0]

    def find(sample, *positions):
        row = processor.row(picture, sample.prompt)
        found = places_of(processor, picture, row, sample, SIZE, positions)
        decode = processor._tokenizer.decode
        return [
            decode([row.tokens[at] for at in places]) if position in ("subject", "reference")
            else [at - first for at in places]
            for position, places in found.items()
        ]  # fmt: skip

    return find


def test_a_name_is_its_last_token_and_the_image_all_of_its_tokens(places):
    subject, reference, image = places(_sample(), "subject", "reference", "image")
    assert " red circle".endswith(subject) and " blue star".endswith(reference)
    assert subject and reference and image == list(range(64))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((56, 0, 84, 14), [0, 1]),
        ((70, 0, 98, 14), [1, 2]),  # moved to the right by the width of a token
        ((56, 14, 84, 28), [8, 9]),  # moved down by its height
        ((56, 0, 77, 14), [0]),  # the centre of token 1 is at 77
        ((63, 7, 64, 8), [0]),  # the centre itself
        ((-50, 90, 64, 500), [48, 56]),
        ((0, 0, 224, 112), list(range(64))),
    ],
)
def test_a_box_has_the_tokens_whose_centres_are_in_it(places, box, expected):
    assert places(_sample(subject_box=box), "subject-box") == [expected]
    assert places(_sample(reference_box=box), "reference-box") == [expected]


@pytest.mark.parametrize(
    ("changes", "position", "reason"),
    [
        ({"subject": ""}, "subject", "the dataset names no subject for this row"),
        ({"reference": "blue"}, "reference", None),
        ({"reference": "cat"}, "reference", "the prompt has no words 'cat' that belong to the"),
        ({"reference": "red circle"}, "subject", "the prompt has no words 'red circle' that"),
        ({}, "subject-box", "the dataset has no subject_box for this row"),
        ({"subject_box": (0, 0, 50, 112)}, "subject-box",
         r"none of the 64 image tokens has its centre in the box \[0, 0, 50, 112\] of .* × 112; the model"),
        ({"subject_box": (57, 1, 58, 2)}, "subject-box", "none of the 64 image tokens has its centre in the box"),
    ],
)  # fmt: skip
def test_a_position_without_a_place_is_named_with_the_reason(places, changes, position, reason):
    sample = _sample(**changes)
    if reason is None:
        assert places(sample, position) == [" blue"]
        return
    with pytest.raises(InputError, match=f"position {position}: {reason}"):
        places(sample, position)


@pytest.mark.parametrize("marker", ["<mask>", "<mask> <depth>"])
def test_a_region_is_the_last_token_of_its_marker(marker):
    config = models.resolve("spatialrgpt", checkpoint=str(SPATIALRGPT))
    processor = models.read_processor(config)
    depth = Image.new("RGB", SIZE) if "<depth>" in marker else None
    picture = processor.picture(Image.new("RGB", SIZE), depth)
    prompt = f"Where is the {marker} relative to the {marker}? The {marker} is"
    start = prompt.rindex(marker)
    named = {"subject": "cat", "subject_span": (start, start + len(marker))}
    sample = Sample(id="a", image="", prompt=prompt, label="", group="", **named)
    row = processor.row(picture, prompt, np.ones((3, SIZE[1], SIZE[0]), bool))
    (place,) = places_of(processor, picture, row, sample, SIZE, ["subject"])["subject"]
    wanted = processor._tokenizer.convert_tokens_to_ids(marker.split()[-1])
    assert place == max(i for i, token in enumerate(row.tokens) if token == wanted)
