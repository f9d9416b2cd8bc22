import io
from dataclasses import replace

import pytest
from helpers import made
from rich.console import Console

from vsp.reporting.probe_report import report_page


def _line(tmp_path, **changes):
    """The report as one line, with changes of the summary; those of the peak are merged."""
    rows = made.predictions(made.accuracies(13))
    peak = made.summary(made.scores(rows))["peak"] | changes.pop("peak", {})
    return _printed(made.made(tmp_path / "a", peak=peak, **changes))


def _printed(results):
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(report_page(results))
    return " ".join(console.file.getvalue().split())


def test_seen_and_unseen_pairs_are_shown_beside_the_words_alone(tmp_path):
    figure = {"score": 0.545, "low": 0.5, "high": 0.59}
    seen = {"n": 7500, "peak": {"score": 0.81, "low": 0.8, "high": 0.82}, "words": figure}
    pairs = {"kind": "name pair", "seen": seen, "unseen": {"n": 2100, "peak": figure}}
    line = _line(tmp_path, peak={"pairs": pairs})
    assert "seen name pairs 7500 rows, accuracy 0.810 [0.800, 0.820], words alone 0.545 [" in line
    assert "unseen name pairs 2100 rows, accuracy 0.545 [0.500, 0.590]" in line
    assert "name pairs" not in _line(tmp_path / "none")


@pytest.mark.parametrize("is_said", [True, False])
def test_a_missing_test_within_prompts_is_explained(tmp_path, is_said):
    rows = made.predictions(made.accuracies(13))
    p = {"p_within": None, "p_within_corrected": None} if is_said else {}
    scores = [replace(score, **p) for score in made.scores(rows)]
    n_within = 99 if is_said else 120
    line = _printed(made.made(tmp_path / "a", rows, scores, n_within=n_within))
    said = "99 of 240 test rows share their prompt with a row of another label; a permutation test within prompts needs 100"
    assert (said in line) == is_said
    assert "share their prompt" not in _line(tmp_path / "none", n_within=0, n_permutations=0)


def test_rows_on_neither_side_and_rows_that_are_never_tested_are_counted(tmp_path):
    rows = {"planned": 240, "done": 240, "failed": 0, "missing": 0}
    rows |= {"used": 300, "train": 300, "test": 180}
    changes = {"split": "5 folds by name, 2 times", "split_by": "names", "rows": rows}
    line = _line(tmp_path, **changes)
    assert "5 folds by name, 2 times; 192 training rows, 48 test rows, 60 in neither" in line
    assert "120 of 300 rows are never tested" in line and "of 120 name pairs." in line
    assert "never tested" not in _line(tmp_path / "own", rows=rows)


@pytest.mark.parametrize(
    ("n_without", "has_baseline", "said"),
    [
        (0, True, ""),
        (240, False, ""),
        (5, True, "baseline boxes: 5 of 240 rows have no boxes and get their mean"),
        (100, False, "no baseline boxes: 100 of 240 rows have no boxes, more than 5 %"),
    ],
)
def test_rows_without_boxes_are_counted(tmp_path, n_without, has_baseline, said):
    rows = made.predictions(made.accuracies(13))
    baselines = made.summary(made.scores(rows))["baselines"]
    if has_baseline:
        baselines = {**baselines, "boxes": {"score": 0.6, "low": 0.5, "high": 0.7}}
    line = _line(tmp_path, n_without_boxes=n_without, baselines=baselines)
    assert said in line and ("have no boxes" in line) == bool(said)
