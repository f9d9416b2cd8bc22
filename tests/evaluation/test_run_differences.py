"""`vsp compare` says first what differs between the runs."""

import pytest
from helpers import made

from vsp.cli.main import main
from vsp.evaluation.run_differences import differences_sentence, run_differences

MODEL = {"family": "llava15", "checkpoint": "/scratch/someone/llava-7b", "quantization": "4bit"}
PLAN = {"dataset": "/home/someone/spatial", "model": MODEL}
SAME = "The runs have the same model, dataset, prompt, position and probe settings."


@pytest.fixture
def run(tmp_path):
    """Write results of a plan with changes; other changes are of the summary."""

    def written(name, plan=None, **summary):
        values = {**PLAN, **(plan or {})}
        of_plan = made.plan(name, **values).model_dump(mode="json")
        return made.made(tmp_path / "results" / name, plan=of_plan, **summary)

    return written


def _model(**changes):
    return {"model": {**MODEL, **changes}}


CHANGES = {
    "prompt": ({"prompt": "question"}, "prompt (instruction in a; question in b)"),
    "quantization": (_model(quantization="none"), "quantization (4bit in a; none in b)"),
    "stored": (_model(stored_quantization="awq"), "quantization (4bit in a; awq in b)"),
    "checkpoint": (_model(checkpoint="/x/vicuna"), "checkpoint (llava-7b in a; vicuna in b)"),
    "adapter": (_model(adapter="/x/tuned"), "adapter (none in a; tuned in b)"),
    "weights": (_model(weights="random"), "weights (checkpoint in a; random in b)"),
    "revision": (_model(revision="v2"), "revision (none in a; v2 in b)"),
    "template": (_model(template="USER {instruction}"), "template ({instruction} in a; USER"),
    "family": (_model(family="auto"), "model (llava15 in a; auto in b)"),
    "dataset": ({"dataset": "/home/someone/vrd"}, "dataset (spatial in a; vrd in b)"),
    "variant": ({"variants": ["blank"]}, "dataset variant (none in a; blank in b)"),
    "rows": ({"n_samples": 99, "manifest_offsets": [0, 9]}, "number of rows (240 in a; 99 in b)"),
    "precision": ({"compute_dtype": "float32"}, "data type (float16 in a; float32 in b)"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_setting_of_the_plan_that_differs_is_named_with_both_values(run, case):
    changes, words = CHANGES[case]
    differences = run_differences([run("a"), run("b", changes)])
    said = differences_sentence(["a", "b"], differences)
    assert said.startswith(f"The runs differ in {words}") and len(differences) == 1
    assert "someone" not in said and "/" not in said


def test_files_of_a_checkpoint_of_the_same_name_are_compared(run):
    files = [{"model.safetensors": digit * 64} for digit in "ab"]
    results = [run(name, {"checkpoint_files": one}) for name, one in zip("ab", files, strict=True)]
    (one,) = run_differences(results)
    assert one.what == "checkpoint files" and len(set(one.values)) == 2
    (one,) = run_differences([results[0], run("c", _model(checkpoint="other"))])
    assert one.what == "checkpoint"  # another checkpoint has other files


def test_position_and_probe_settings_count_as_well(run):
    card = {**made.summary(made.scores(made.predictions(made.accuracies(13))))["probe"]}
    other = run("b", position="subject", probe={**card, "treatment": "zscore"})
    said = differences_sentence(["a", "b"], run_differences([run("a"), other]))
    assert "position (last token in a; last token of the subject in b)" in said
    assert "treatment (center in a; zscore in b)" in said and " and treatment" in said
    seeds = [run(name, settings={"seed": i}) for i, name in enumerate("cd")]
    assert "seed of the splits (0 in c; 1 in d)" in differences_sentence(
        ["c", "d"], run_differences(seeds)
    )
    assert not run_differences([run("e", settings={"seed": 0, "folds": 3}), run("f")])


def test_the_dataset_at_another_path_of_the_same_name_is_the_same(run):
    moved = run("b", {"dataset": "/mnt/other/spatial", **_model(checkpoint="/mnt/llava-7b")})
    differences = run_differences([run("a"), moved])
    assert differences == [] and differences_sentence(["a", "b"], differences) == SAME


def test_runs_with_the_same_value_are_named_together(run):
    runs = [run("a"), run("b", {"prompt": "question"}), run("c")]
    said = differences_sentence(["a", "b", "c"], run_differences(runs))
    assert said == "The runs differ in prompt (instruction in a and c; question in b)."


def test_the_first_line_of_the_page_says_what_differs(run, work, capsys):
    run("a")
    run("b", {"prompt": "question"})
    assert main(["compare", "a", "b"]) == 0
    page = capsys.readouterr().out.splitlines()
    assert page[0] == "The runs differ in prompt (instruction in a; question in b)."
    run("c")
    capsys.readouterr()
    assert main(["compare", "a", "c"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == SAME


def test_a_strange_plan_is_described_and_does_not_stop_the_comparison(tmp_path):
    """Results of others are read for their scores; their plan may hold anything."""
    strange = {"plan": {"model": 3, "prompt": ["a", {"b": 1}], "variants": []}, "position": 7}
    results = [made.made(tmp_path / "a"), made.made(tmp_path / "b", **strange)]
    said = differences_sentence(["a", "b"], run_differences(results))
    assert 'prompt (instruction in a; ["a", {"b": 1}] in b)' in said
