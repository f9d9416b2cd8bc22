import pytest

from vsp import prompts
from vsp.errors import ConfigError

FIELDS = {"subject": "red circle", "reference": "blue square"}


def test_the_statement_templates_keep_their_order():
    filled = [
        prompts.render(prompts.statement(prompts.SPATIAL, i), FIELDS)
        for i in range(prompts.N_STATEMENTS)
    ]
    assert filled == [
        "The spatial relationship of red circle to blue square is",
        "Considering the image, the red circle is positioned ___ the blue square. The answer is",
        "Where is the red circle relative to the blue square? The red circle is",
    ]


def test_the_instruction_lists_the_labels_in_words():
    labels = ["left_of", "right_of", "above", "below"]
    assert prompts.render(prompts.SPATIAL["instruction"], FIELDS, labels) == (
        "Determine the spatial relationship of 'red circle' relative to 'blue square'.\n"
        "Choose ONE label from:\n[left of, right of, above, below]\n"
        "Respond with ONLY the label. No explanation."
    )


def test_a_missing_field_is_named():
    with pytest.raises(ConfigError, match="needs 'reference'; the dataset gives subject"):
        prompts.render(prompts.SPATIAL["statement"], {"subject": "a"})


def test_both_tasks_have_the_same_styles():
    assert list(prompts.SPATIAL) == list(prompts.COLOR)
    assert len(prompts.SPATIAL) - 1 == prompts.N_STATEMENTS
