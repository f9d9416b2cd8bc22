"""`studies/NAME.yaml` holds a study as it was typed, and nothing else."""

from __future__ import annotations

import pytest
import yaml
from helpers import hostile

from vsp.errors import ConfigError
from vsp.storage.study import PLAN_OPTIONS, Study, read_study, study_names, write_study

WHOLE = Study(
    "s",
    "does it look?",
    "llava15",
    "data/vrd",
    ("blank", "untrained"),
    ("data/a", "data/b"),
    {"checkpoint": "/shared/x", "limit": 24, "lens": True, "answers": False, "option": {"k": [1]}},
)


def _file(work, text):
    (work / "studies").mkdir(exist_ok=True)
    (work / "studies" / "s.yaml").write_text(text)


def test_a_study_is_read_as_it_was_written(work):
    assert write_study(WHOLE, work) == work / "studies" / "s.yaml"
    assert read_study("s", work) == WHOLE and study_names(work) == ["s"]


def test_the_file_is_plain_yaml(work):
    values = yaml.safe_load(write_study(WHOLE, work).read_text())
    assert list(values) == ["question", "model", "dataset", "with", "other-datasets", "plan"]
    assert values["other-datasets"] == ["data/a", "data/b"]


@pytest.mark.parametrize(
    "text", [hostile.NAME, hostile.TEXT, "'}\n# \t: [", "\udcff.jpg", "yes", "1"]
)
def test_any_text_of_a_question_and_any_path_is_kept(work, text):
    study = Study("s", text, text, text, on=(f"other{text}",))
    write_study(study, work)
    assert read_study("s", work) == study


def test_a_file_of_three_lines_is_enough(work):
    _file(work, "model: small\ndataset: data/raw/demo\n")
    assert read_study("s", work) == Study("s", "", "small", "data/raw/demo")


LEAST = "model: small\ndataset: d\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST + "questoin: x\n", "key 'questoin' is not known; did you mean question?"),
        (LEAST + "on: [a]\n", "key 'True' is not known"),  # YAML reads `on` as true
        (LEAST + "plan: {chekpoint: x}\n", "plan: option 'chekpoint' is not known; did you mean checkpoint?"),
        (LEAST + "plan: {run: x}\n", "plan: option 'run' is not known"),
        (LEAST + "plan: {limit: many}\n", "plan: limit 'many': write a whole number"),
        (LEAST + "plan: {limit: true}\n", "plan: limit True: write a whole number"),
        (LEAST + "plan: {lens: 1}\n", "plan: lens 1: write true or false"),
        (LEAST + "plan: {option: x}\n", "plan: option 'x': write `key: value` pairs"),
        (LEAST + "plan: [x]\n", "plan ['x']: write `key: value` lines"),
        (LEAST + "with: blank\n", "with 'blank': write a list, as [a, b]"),
        (LEAST + "with: [blank, blank]\n", "with 'blank': is listed twice; keep one"),
        (LEAST + "with: [original]\n", "with 'original': is not a control"),
        (LEAST + "with: [on-x]\n", "with 'on-x': write datasets under other-datasets"),
        (LEAST + "with: ['../x']\n", "with '../x': is not a control"),
        (LEAST + "with: [1]\n", "with 1: write text"),
        (LEAST + "other-datasets: [d]\n", "other-datasets 'd': is the dataset itself; remove it"),
        ("model: small\n", "dataset: is missing; add a line `dataset: …`"),
        ("model: ''\ndataset: d\n", "model '': write text"),
        ("model: small\ndataset: [d]\n", "dataset ['d']: write text"),
        ("- a\n", "holds a list; write `key: value` lines"),
        ("model: [\n", "cannot be read as YAML"),
        ("model: &a [*a]\ndataset: d\n", "a value contains itself"),
        ("model: !!python/object/apply:os.system ['true']\ndataset: d\n", "cannot be read as YAML"),
        (LEAST + "model: fake\n", "repeats the key 'model'"),
    ],
)  # fmt: skip
def test_what_a_study_cannot_have_is_refused_in_one_line(work, text, said):
    _file(work, text)
    with pytest.raises(ConfigError) as error:
        read_study("s", work)
    assert str(error.value).startswith(f"{work}/studies/s.yaml: ") and said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_study_names_those_that_are_there(work):
    write_study(WHOLE, work)
    write_study(Study("small-demo", "", "small", "d"), work)
    with pytest.raises(
        ConfigError, match="no such study; there is s, small-demo; did you mean small-demo"
    ):
        read_study("small-dmeo", work)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", hostile.NAME, "x" * 101])
def test_a_name_that_no_folder_can_have_is_refused(work, name):
    with pytest.raises(ConfigError, match="use letters, digits"):
        read_study(name, work)


def test_a_name_from_which_no_run_can_be_named_is_refused(work):
    with pytest.raises(ConfigError, match="choose a shorter --name"):
        write_study(Study("x" * 95, "", "small", "d"), work)
    assert not (work / "studies").exists()


def test_every_run_has_a_name_of_its_own():
    study = Study("s", "", "m", "data/a", ("blank",), ("x/b", "y/b", "z/é !", "/"))
    assert study.runs == {
        "original": "s-original",
        "blank": "s-blank",
        "on-b": "s-on-b",
        "on-b-2": "s-on-b-2",
        "on----": "s-on----",
        "on-dataset": "s-on-dataset",
    }
    assert study.datasets["on-b-2"] == "y/b"


def test_the_options_of_a_study_are_those_of_a_plan():
    """All options of `vsp plan`, but those that a study has itself, and the profile."""
    from vsp.cli.main import make_parser

    options = make_parser().all_commands()["plan"].options()
    own = {"--help", "--quiet", "--verbose", "--run", "--model", "--dataset", "--profile"}
    assert {f"--{one}" for one in PLAN_OPTIONS} == options - own - {"--no-answers"}
