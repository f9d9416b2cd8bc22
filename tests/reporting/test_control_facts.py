"""The report says which controls are drawn and why others are not."""

from helpers.made import made

from vsp.cli.main import main

CONTROLS = {
    "prompt": {"tasks": 0, "types": 5, "note": "5 types of rows; it needs 10"},
    "names": {"tasks": 4, "types": 40, "note": "1 of 5 tasks left out"},
    "cell": {"tasks": 5, "types": 64, "note": ""},
}


def test_the_report_shows_each_control_or_why_it_is_not_drawn(tmp_path, capsys):
    results = made(tmp_path / "results/run", controls=CONTROLS)
    figures = results.summary()["peak"]["controls"]["names"]
    assert main(["report", "--run", str(results.folder)]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "control, prompt not drawn: 5 types of rows; it needs 10" in page
    assert "control, cell not defined" in page  # five tasks, and no figures of them
    selectivity, control = figures["selectivity"], figures["control"]
    assert f"control, names selectivity {selectivity['difference']:+.3f}" in page
    assert f"of the control {control['difference']:.3f} [{control['low']:.3f}" in page
    assert "(4 tasks of 40 types)" in page and "1 of 5 tasks left out" in page
    assert "which give each pair of names a random label" in page
    assert "capacity training accuracy 0.400 on random labels of the rows; chance 0.250" in page
