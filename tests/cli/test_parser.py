"""Errors of a mistyped command line, and the order of options and arguments."""

import pytest

from vsp.cli.main import main, make_parser


def _refused(arguments, capsys):
    """The message of a command line that cannot be parsed: the last line of stderr."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == "" and len(err.splitlines()) == 2, err
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["repot"], "vsp: command 'repot' is not known; did you mean report?"),
        (["dataset", "shw"], "vsp dataset: command 'shw' is not known; did you mean show?"),
        (["xyz"], "vsp: command 'xyz' is not known; `vsp help` lists the commands"),
        (["help", "pln"], "vsp: command 'pln' is not known; did you mean plan?"),
        (["plan", "--datset", "x"], "vsp plan: option --datset is not known; did you mean --dataset?"),
        (["probe", "--n_jobs=3"], "vsp probe: option --n_jobs is not known; did you mean --n-jobs?"),
        # the wrong option comes before the missing one
        (["export", "--too", "npz"], "vsp export: option --too is not known; did you mean --to?"),
        (["report", "--folds", "3"], "vsp report: option --folds is not known; it is an option of `vsp probe`"),
        (["logs", "--zz"], "vsp logs: option --zz is not known; `vsp help logs` lists the options"),
        (["--zz", "logs"], "vsp: option --zz is not known; `vsp help` lists the options"),
        (["plan", "--model", "fake", "--prompt", "instrction"], "vsp plan: --prompt 'instrction' is not known; "
         "did you mean instruction? known: statement, cloze, question, instruction, dataset"),
        (["extract", "a", "b"], "vsp extract: argument 'b' is one too many; vsp extract takes RUN"),
    ],
)  # fmt: skip
def test_a_mistyped_word_is_answered_with_the_nearest_one(arguments, message, capsys):
    assert _refused(arguments, capsys) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "--model", "lava15"], "model 'lava15' is not known; did you mean llava15? known: auto"),
        (["plan", "--model", "lava-1.5-7b"], "is not known; did you mean llava-1.5-7b or llava-1.5-13b?"),
        (["generate", "--config", "spatail"], "config 'spatail' is not known; did you mean spatial? known:"),
        (["import", "vdr"], "vdr: neither a source nor a file; did you mean vsr or vrd?"),
        (["plan", "--model", "fake", "--positions", "last,subjct"], "name 'subjct' is not known; did you mean subject?"),
        (["submit", "--stages", "extract,prob"], "stage 'prob' is not known; did you mean probe?"),
        (["evaluate", "a", "--on", "b", "--metric", "balance"], "--metric 'balance' is not known; did you mean balanced?"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest_one(vsp, arguments, message):
    answer = vsp(*arguments)
    assert answer.returncode in (1, 2) and message in answer.stderr.splitlines()[-1], answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--vers"], ["plan", "--mod", "fake"], ["status", "--js"], ["dataset", "show", "d", "--che"]],
)
def test_no_option_may_be_abbreviated(arguments, capsys):
    assert "is not known; did you mean --" in _refused(arguments, capsys)


def _parsed(words):
    values = vars(make_parser().parse_args(words.split()))
    return {key: value for key, value in values.items() if key != "handler"}


@pytest.mark.parametrize(
    ("words", "other_order"),
    [
        ("logs 3 --lines 5 --run x", "logs --run x 3 --lines 5"),
        ("dataset show d --n 3 --json", "dataset show --n 3 d --json"),
        ("compare a b c --seed 2 --json", "compare a --seed 2 b --json c"),
        ("evaluate a b --on c d --json", "evaluate a --json b --on c d"),
        ("import states a --out o --layers 1", "import --layers 1 states --out o a"),
        ("export x --to npz --out y", "export --to npz x --out y"),
    ],
)  # fmt: skip
def test_options_and_positional_arguments_come_in_any_order(words, other_order):
    assert _parsed(words) == _parsed(other_order)


def test_words_after_two_dashes_are_no_options(capsys):
    assert str(_parsed("dataset show -- --json")["dataset"]) == "--json"
    assert "argument '--json' is one too many" in _refused(["models", "--", "--json"], capsys)


def test_help_of_a_command_is_what_its_option_shows(capsys):
    texts = []
    for words in (["help"], ["--help"], ["help", "export"], ["export", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert "\n    help " in texts[0] and "usage: vsp export [-h] " in texts[2]
    assert "[RUN]" in texts[2]


def test_a_variable_names_the_default_number_of_jobs_and_is_checked(monkeypatch, capsys):
    monkeypatch.setenv("VSP_N_JOBS", "3")
    assert make_parser().parse_args(["probe"]).n_jobs == 3
    assert make_parser().parse_args(["probe", "--n-jobs", "2"]).n_jobs == 2
    monkeypatch.setenv("VSP_N_JOBS", "many")
    assert "--n-jobs" in _refused(["probe"], capsys)
