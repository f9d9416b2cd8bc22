"""`vsp answer --generate` from the plan of a run to the file, with the fake model."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vsp.cli.main import main
from vsp.datasets.prompts import label_words
from vsp.errors import RunError, StoreError
from vsp.extraction.extract import extract
from vsp.extraction.free_answers import choose_rows, free_answers
from vsp.extraction.row_options import options_of
from vsp.models.fake import Fake

OPTIONS = ["left of", "right of", "above", "below"]


def test_a_planned_run_is_answered_without_its_states(plan_fake, work, capsys):
    run = plan_fake(name="r")
    assert main(["answer", "--generate", "60", "--json"]) == 0
    said, log = capsys.readouterr()
    path = work / "results/r/free_answers.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    samples = run.all_samples()
    assert len(lines) == 60 and [line["row"] for line in lines] == choose_rows(96, 60)
    for line in lines:
        sample = samples[line["row"]]
        assert (line["id"], line["label"]) == (sample.id, sample.label)
        assert sorted(line["options"]) == sorted(OPTIONS)
        named = [option for option in OPTIONS if option in line["text"]]
        assert named == ([] if line["match"] is None else [line["match"]])
    counts = {how: sum(line["how"] == how for line in lines)
              for how in ("exact", "prefix", "contained", "none", "failed")}  # fmt: skip
    assert min(counts[how] for how in ("exact", "prefix", "contained", "none")) > 5
    matched = [line for line in lines if line["match"]]
    right = [line["match"] == line["label"].replace("_", " ") for line in matched]
    assert json.loads(said) == {
        "run": "r", "planned_rows": 96, "rows": 60, "tokens": 32, "counts": counts,
        "accuracy": np.mean(right), "cut": 0, "compared": 0, "agreeing": 0, "file": str(path.relative_to(work)),
        "unmatched": [{key: line[key] for key in ("row", "id", "label", "text", "reason")}
                      for line in lines if line["how"] == "none"],
    }  # fmt: skip
    assert "answer r: 60/60 rows" in log

    first = path.read_bytes()
    assert main(["answer", "--generate", "60"]) == 0
    assert path.read_bytes() == first and [one.name for one in path.parent.iterdir()] == [path.name]
    page = capsys.readouterr().out
    assert "one drawn from each of 60 equal parts of its 96 rows" in page
    assert f"exact      {counts['exact']:>4}" in page
    assert page.count('"I do not know."') == min(counts["none"], 20)
    assert (f"… and {counts['none'] - 20} more" in page) == (counts["none"] > 20)


def test_texts_are_compared_with_the_stored_answers_of_done_rows(plan_fake, work, capsys):
    run = plan_fake(name="r", n_shards=3, batch_size=4)
    extract(run, run.shards[1:])
    found = free_answers(run, 96, 32)
    start = run.shards[1].start
    stored = np.load(run.folder / "answers.npy")[start : run.plan.n_samples, :4]
    options = [option.text.strip() for option in run.plan.answers.options]
    expected = [None] * start + [options[column] for column in stored.argmax(axis=1)]
    assert start > 0 and [answer.likeliest for answer in found.answers] == expected
    named = [answer for answer in found.answers[start:] if answer.match]
    agreeing = sum(answer.match == answer.likeliest for answer in named)
    assert 0 < agreeing < len(named) == len(found.compared)
    assert main(["answer", "--generate", "96"]) == 0
    said = f"{agreeing} of {len(named)} texts with an option name the most likely one."
    assert said in " ".join(capsys.readouterr().out.split())
    np.load(run.folder / "answers.npy", mmap_mode="r+")[start + 3] = np.nan
    with pytest.raises(RunError, match=f"row {start + 3} of answers.npy is damaged; use `vsp ver"):
        free_answers(run, 96, 32)
    other = plan_fake(name="other", batch_size=8)
    shutil.copy(other.folder / "answers.npy", run.folder)
    with pytest.raises(StoreError, match=r"answers.npy: is not the array of this plan"):
        free_answers(run, 96, 32)
    (run.folder / "answers.npy").unlink()
    with pytest.raises(StoreError, match=r"answers.npy: no such file; plan the run again"):
        free_answers(run, 96, 32)


def test_rows_have_the_options_that_their_answers_are_stored_for(plan_fake):
    run = plan_fake(limit=8)
    sample = run.all_samples()[0]
    assert options_of(run.plan, sample) == tuple(map(label_words, run.plan.labels))
    own = replace(sample, options=(" Far away", " Near"))
    assert options_of(run.plan, own) == ("Far away", "Near")
    common = run.plan.answers.model_copy(update={"options": run.plan.answers.options[::-1]})
    plan = run.plan.model_copy(update={"answers": common})
    assert options_of(plan, sample) == tuple(map(label_words, run.plan.labels[::-1]))
    without = run.plan.model_copy(update={"answers": None})
    assert options_of(without, sample) == tuple(map(label_words, run.plan.labels))


def test_a_text_at_the_limit_of_tokens_is_said_to_be_cut(plan_fake, capsys):
    run = plan_fake()
    found = free_answers(run, 30, n_tokens=5)
    assert {len(one.text) for one in found.answers} == {5} and found.n_cut == 30
    assert main(["answer", "--generate", "3", "--tokens", "5"]) == 0
    assert "3 texts of 5 tokens may be cut off" in capsys.readouterr().out


def test_rows_are_spread_and_not_in_step_with_the_labels():
    rows = np.array(choose_rows(1000, 50))
    assert (rows // 20 == np.arange(50)).all()
    assert np.bincount(rows % 4, minlength=4).min() > 5
    assert choose_rows(3, 50) == [0, 1, 2]


class _Hostile(Fake):
    """Writes commands for a terminal, and has no memory for every second row."""

    text = "\x1b[7mE\x9b7m\u202e\nvsp: all is well\x00 [red]"

    def generate(self, groups, n_tokens):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls % 2:
            raise MemoryError("8 GB\x1b[7m")
        return [tuple(self.text.encode()) for _ in groups]


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.setattr("vsp.models.fake.Fake", _Hostile)


@pytest.mark.usefixtures("hostile")
def test_hostile_texts_and_failed_rows_are_listed_escaped(plan_fake, work, capsys):
    plan_fake(name="r")
    assert main(["answer", "--generate", "50"]) == 0
    page = capsys.readouterr().out
    assert not set(page) & set("\x1b\x9b\u202e\x00") and "\nvsp: all" not in page
    unfolded = " ".join(page.split())
    assert r'"\x1b[7mE\x9b7m\u202e\nvsp: all is well\x00 [red]"' in unfolded
    assert r"out of memory: 8 GB\x1b[7m" in unfolded
    assert page.count("… and 5 more") == 2
    lines = (work / "results/r/free_answers.jsonl").read_bytes()
    assert not set(lines) & {0x1B, 0x9B, 0} and len(lines.splitlines()) == 50
    assert {json.loads(line)["text"] for line in lines.splitlines()} == {None, _Hostile.text}


def test_a_changed_image_fails_its_row_and_only_failed_rows_are_an_error(
    plan_fake, write_dataset, work, capsys
):
    records = [
        {"id": str(i), "image_filename": f"{i}.png", "subject": "a", "reference": "b",
         "label": ("above", "below")[i % 2]}
        for i in range(2)
    ]  # fmt: skip
    dataset = write_dataset(records)
    run = plan_fake(dataset=dataset)
    (dataset / "images/0.png").write_bytes(b"")
    failed, answered = free_answers(run, 2, 32).answers
    assert (failed.how, failed.text, failed.match) == ("failed", None, None)
    assert "0.png" in failed.reason and answered.text is not None
    (dataset / "images/1.png").write_bytes(b"")
    with pytest.raises(RunError, match=r"no row has a text; row 0 failed: .*0\.png"):
        free_answers(run, 2, 32)
    assert main(["answer", "--generate", "2"]) == 1
    assert not (work / "results").exists() and capsys.readouterr().err.count("vsp: run") == 1
