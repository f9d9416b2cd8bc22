"""The page as a file: its figures are those of the results, its bytes are the same again."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from helpers import made
from helpers.large_study import large_study
from helpers.page_results import HOSTILE, rich_results, score, write_page

from vsp.reporting.page.messages import without_folders
from vsp.reporting.page.packing import packed_spec, unpacked_spec
from vsp.reporting.page.page_run import read_page_run
from vsp.reporting.page.report_page import runs_page
from vsp.reporting.page.rerun_commands import commands
from vsp.reporting.page.study_page import study_html
from vsp.reporting.study_facts import study_facts


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return rich_results(tmp_path_factory.mktemp("page") / "results" / "small")


@pytest.fixture(scope="module")
def source(results, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("written") / "page.html", [results]).read_text()


def _charts(source):
    block = re.search(r'<script type="application/json" id="charts">(.*?)</script>', source)[1]
    return {key: unpacked_spec(spec) for key, spec in json.loads(block).items()}


def _section(source, key):
    return re.search(rf'<section id="{key}".*?</section>', source, re.DOTALL)[0]


def test_the_figures_of_the_page_are_those_of_the_scores(results, source):
    lines = (results.folder / "scores.jsonl").read_text().splitlines()
    stored = [json.loads(line) for line in lines]
    drawn = [one for one in _charts(source)["curves"]["data"]["values"] if one["kind"] == "probe"]
    names = ("layer", "score", "low", "high")
    assert [[one[name] for name in names] for one in drawn] == [
        [one[name] for name in names] for one in stored
    ]
    classes = list(stored[0]["recall"])
    recalls = {
        (one["layer"], classes[int(one["class"])]): one["score"]
        for one in _charts(source)["classes"]["data"]["values"]
        if one["kind"] == "knows"
    }
    assert recalls == {
        (one["layer"], name): value for one in stored for name, value in one["recall"].items()
    }
    counts = _charts(source)["confusion"]["data"]["values"]
    for one in stored:
        assert [row["n"] for row in counts if row["layer"] == one["layer"]] == one["confusion"]
    table = _section(source, "layers")
    for one in stored:
        for value in (one["score"], one["low"], one["high"], one["p_corrected"], one["macro_f1"]):
            assert f'title="{value!r}">{value:.3f}<' in table


def test_the_cited_figure_and_the_answers_are_those_of_the_summary(results, source):
    peak = results.summary()["peak"]
    (cited,) = [
        one for one in _charts(source)["curves"]["data"]["values"] if one["kind"] == "cited"
    ]
    assert [cited[name] for name in ("score", "low", "high")] == [
        peak[name] for name in ("estimate", "low", "high")
    ]
    said = [one for one in _charts(source)["curves"]["data"]["values"] if one["kind"] == "says"]
    assert {(one["score"], one["low"], one["high"]) for one in said} == {
        tuple(score(0.61).values())
    }


def test_the_first_sentence_is_the_answer_and_cautions_follow(results, source):
    answers = re.findall(r'<p class="answer">(.*?)</p>', source)
    assert answers == [
        "Layers 3–12 beat chance (0.250) and the words alone at corrected p &lt; 0.05."
    ]
    low = {**results.summary()["peak"], "over_words": made.interval(0.01)}
    doubtful = rich_results(results.home.parent / "doubtful", peak=low)
    page = write_page(results.home / "doubtful.html", [doubtful]).read_text()
    assert re.search(r'<p class="caution">The words alone score about as well', page)


def test_the_same_results_give_the_same_bytes(results, source, tmp_path):
    assert write_page(tmp_path / "again.html", [results]).read_text() == source


def test_the_page_is_small_and_has_no_path_of_the_machine(tmp_path, source):
    assert len(source.encode()) < 1_500_000
    plan = made.plan("own").model_dump(mode="json")
    plan["dataset"] = "/home/somebody/our data/vrd"
    plan["model"] = {"family": "llava15", "checkpoint": "/shared/somebody/llava-1.5-7b-hf"}
    results = rich_results(tmp_path / "results" / "own", plan=plan)
    page = write_page(tmp_path / "page.html", [results]).read_text()
    assert "somebody" not in page and str(tmp_path) not in page and "/home" not in page
    assert "vrd · llava-1.5-7b-hf" in page and "our data" not in page


def test_a_message_has_names_in_place_of_paths(results):
    run = read_page_run("small", results)
    message = f"{results.home}/x: gone; /a/b-c/d.png, see docs/page.md: 1/2 of data/raw/spatial"
    assert without_folders(message, run) == (
        "results/small/x: gone; d.png, see docs/page.md: 1/2 of data/raw/spatial"
    )


def test_runs_of_models_with_other_numbers_of_layers_are_placed_by_depth(tmp_path):
    rows = made.predictions(made.accuracies(7))
    short = made.made(tmp_path / "results" / "short", rows)
    long = rich_results(tmp_path / "results" / "long")
    charts = _charts(write_page(tmp_path / "page.html", [short, long]).read_text())
    places = [one["depth"] for one in charts["curves"]["data"]["values"] if one["run"] == "short"]
    assert min(places) == 0 and max(places) == 1


def test_other_positions_of_a_run_are_curves_that_can_be_shown(tmp_path):
    settings = {"position": "last", "probe": "logistic", "folds": 5}
    at_last = rich_results(tmp_path / "results" / "run" / "logistic", settings=settings)
    made.made(tmp_path / "results" / "run" / "logistic", settings=settings, name="run")
    rows = made.predictions(made.accuracies(13))
    scores = made.scores(rows)
    values = made.summary(
        scores, "run", position="image", settings={**settings, "position": "image"}
    )
    folder = tmp_path / "results" / "run" / "logistic-at-image"
    estimates = {"inner": made.inner(rows)}
    type(at_last)(folder, folder.parent).write(
        values, scores, {"loss": made.loss(rows), **rows}, estimates, [{}] * 13
    )
    page = write_page(tmp_path / "page.html", [at_last]).read_text()
    curves = _charts(page)["curves"]
    assert {one["position"] for one in curves["data"]["values"]} == {
        "last token",
        "mean over the image",
    }
    assert {"name": "positions", "value": ["last token"]} in curves["params"]


def test_results_beside_those_of_the_page_that_cannot_be_read_are_named(results, tmp_path):
    own = rich_results(tmp_path / "results" / "own")
    other = own.home / "logistic-at-image" / "summary.json"
    other.parent.mkdir()
    other.write_text("{")
    page = runs_page([read_page_run("own", own)], gallery=0)
    (why,) = page.left_out
    assert why.startswith("results/own/logistic-at-image/summary.json: ")
    assert f"Left out: {why}" in page.text


def test_numbers_as_targets_have_curves_and_no_classes(tmp_path):
    page = write_page(
        tmp_path / "page.html", [made.made(tmp_path / "results" / "n", made.numbers())]
    )
    assert set(_charts(page.read_text())) == {"curves"}


def test_many_labels_are_cut_and_what_is_left_out_is_said(tmp_path):
    names = [f"label {i}" for i in range(70)]
    rows = made.predictions(made.accuracies(13))
    of_class = dict.fromkeys(names, 0.5)
    scores = [
        replace(one, recall=of_class, precision=of_class, confusion=[[1] * 70] * 70)
        for one in made.scores(rows)
    ]
    page = write_page(tmp_path / "page.html", [made.made(tmp_path / "results" / "n", rows, scores)])
    source = page.read_text()
    assert "46 of 70 labels are not drawn; the table has all." in source
    assert "Left out: the confusion matrix of n, which has 70 labels; 60 can be read." in source
    assert "confusion" not in _charts(source) and len(source) < 1_500_000


def test_rows_of_a_chart_are_packed_and_are_the_same_again():
    rows = [{"layer": i, "name": "probe (knows)", "score": i / 7, "dash": [1, 0], "p": None}
            for i in range(9)]  # fmt: skip
    spec = {"mark": "line", "data": {"values": rows}}
    packed = packed_spec(spec)
    assert packed["data"]["values"]["columns"]["name"] == {"of": ["probe (knows)"], "at": [0] * 9}
    assert unpacked_spec(packed) == spec
    mixed = {"data": {"values": [*rows, {"layer": 9}]}}
    assert packed_spec(mixed) == unpacked_spec(mixed) == mixed


def test_a_study_of_eight_runs_and_33_layers_stays_under_its_size(tmp_path):
    study = large_study(tmp_path)
    page = study_html(study_facts(study, tmp_path), gallery=0)
    charts = _charts(page.text)
    assert page.left_out == ()
    assert {"verdict-evidence", "axes-coherence", "axes-cosines", "projection"} <= charts.keys()
    assert len({one["of"] for one in charts["verdict-evidence"]["data"]["values"]}) == 5
    assert len(page.text.encode()) < 1_400_000  # of 1.5 MB; the gallery comes on top


def test_of_many_runs_the_first_alone_can_be_in_full_so_that_the_page_stays_small(
    tmp_path, monkeypatch
):
    accuracies = made.accuracies
    monkeypatch.setattr(made, "accuracies", lambda _: accuracies(33))
    every = [rich_results(tmp_path / "results" / f"s-{i}") for i in range(8)]
    source = write_page(tmp_path / "page.html", every, gallery=0, first_in_full=True).read_text()
    assert len(source.encode()) < 1_320_000  # a study adds verdict, axes, transfers and states
    drawn = _charts(source)["curves"]["data"]["values"]
    assert {one["run"] for one in drawn} == {f"s-{i}" for i in range(8)}
    assert {one["kind"] for one in drawn if one["run"] == "s-7"} == {"probe", "cited"}
    assert {one["kind"] for one in drawn if one["run"] == "s-0"} > {
        "probe",
        "cited",
        "words",
        "says",
    }
    assert {one["run"] for one in _charts(source)["classes"]["data"]["values"]} == {"s-0"}
    assert "Layers of s-0" in source and "Layers of s-1" not in source
    assert "those of s-0, and other runs have the curve of their probe alone" in source


def test_methods_cite_only_what_was_done(results, source, tmp_path):
    methods = _section(source, "methods")
    for words in ("Hewitt", "Voita", "Westfall", "nostalgebraist", "Bates", "Janssen"):
        assert words in methods
    for words in ("QLoRA", "Holtzman, P. West", "LoRA", "Marks"):
        assert words not in methods
    scores = [
        replace(one, p=None, p_corrected=None, p_within=None, p_within_corrected=None,
                     controls={}, code_bits=None)
        for one in made.scores(made.predictions(made.accuracies(13)))
    ]  # fmt: skip
    bare = made.made(
        tmp_path / "results" / "bare", None, scores, n_permutations=0, controls={}, n_movable=None
    )
    methods = _section(write_page(tmp_path / "page.html", [bare]).read_text(), "methods")
    for words in ("Hewitt", "Voita", "Westfall", "nostalgebraist", "Janssen"):
        assert words not in methods


def test_the_commands_quote_their_arguments_and_have_what_is_not_the_default(tmp_path):
    settings = {
        "position": "last", "probe": "mass-mean", "strengths": [0.1, 1.0], "drop_labels": ["a b'c", "-x"],
        "curve": False, "folds": 10, "over_training": True, "permutations": 100,
    }  # fmt: skip
    results = rich_results(tmp_path / "results" / "small", settings=settings)
    plan, *_, probe, report = commands(read_page_run("small", results))
    assert plan.startswith("vsp plan --model llava15 --checkpoint llava-hf/llava-1.5-7b-hf ")
    assert probe == (
        "vsp probe --run small --probe mass-mean --grid 0.1 1 --drop-label 'a b'\"'\"'c' "
        "--drop-label=-x --no-curve --folds 10 --over training"
    )
    assert report == "vsp report small --probe logistic"


def test_hostile_labels_stand_in_the_page_as_data(tmp_path):
    results = rich_results(tmp_path / "results" / "small", HOSTILE)
    source = write_page(tmp_path / "page.html", [results], title=HOSTILE[1]).read_text()
    assert HOSTILE[0] not in source and "<img src=x" not in source
    charts = _charts(source)
    drawn = {one["label"] for one in charts["classes"]["data"]["values"]}
    assert drawn == {f"{name}, {kind}" for name in HOSTILE for kind in ("knows", "says")}


def test_the_name_of_a_run_is_the_same_text_in_controls_and_data(tmp_path):
    folders = [tmp_path / "results" / name for name in ("a\u202e\n", "b")]
    results = [rich_results(folder, name="x") for folder in folders]
    source = write_page(tmp_path / "page.html", results).read_text()
    assert {one["run"] for one in _charts(source)["curves"]["data"]["values"]} == {
        r"a\u202e\n",
        "b",
    }
    assert r'value="a\u202e\n"' in _section(source, "curves")
