"""A sweep over prompts and models.

One command for a table of a paper.
"""

from helpers.journey import User


def test_a_sweep_plans_runs_and_ends_with_one_table(project):
    user = User(project)
    user.types(
        107, "vsp sweep --models fake --prompts instruction,questoin --datasets data/raw/demo",
        "the prompt that was meant", "question", code=2,
    )  # fmt: skip
    user.types(
        108, "vsp sweep --models fake --prompts instruction,cloze --datasets data/raw/demo --option n_layers=3 --dry-run",
        "which runs there would be, and that one is there already", "planned already, fake-demo", "new, fake-demo-…: fake on demo, prompt cloze",
    )  # fmt: skip
    user.types(
        109, "vsp sweep --models fake --prompts instruction,cloze --datasets data/raw/demo --option n_layers=3",
        "the new run, the run that was planned before, and the next command",
        "planned already: fake-demo", "planned: ", "fake-demo-cloze",
    )  # fmt: skip
    user.types(110, "vsp runs", "the new run beside the others", "fake-demo-cloze", "0%")
