"""`vsp bench`: all ways process the same rows and give the same states."""

import json

import numpy as np
import pytest
from helpers import tiny

from vsp import models
from vsp.extraction.bench import BenchRequest, bench
from vsp.extraction.bench_dataset import rows_per_image


@pytest.fixture(scope="module", autouse=True)
def _one_round():
    """Each way runs once after its warm-up, so that tests are fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsp.extraction.bench._ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def benches(checkpoint, tmp_path_factory):
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    positions = ("last", "subject-box")
    request = BenchRequest(model, n_rows=8, batch_sizes=(2, 4), workers=0, positions=positions)
    folder = tmp_path_factory.mktemp("bench")
    found = bench(request, folder)
    assert not list(folder.iterdir())  # nothing is left behind
    return found


def test_every_way_is_measured_on_rows_of_both_kinds(benches):
    own, shared = benches
    assert (own.n_rows, own.n_images) == (8, 8)
    assert shared.n_rows == 8 and shared.n_images == len(rows_per_image(8)) < 6
    recording = [f"vsp, answers{also}" for also in ("", ", subject-box")]
    of_vsp = [name for name in ("vsp", *recording, "vsp --no-sharing") for _ in range(2)]
    ways = ["transformers, one by one", "transformers, batched", *of_vsp]
    assert [way.name for way in own.ways] == ways[:-2]
    assert [way.name for way in shared.ways] == ways
    assert [way.batch for way in own.ways] == [1, 16, *[2, 4] * 3]
    for way in (*own.ways, *shared.ways):
        assert way.rows_per_second > 0 and way.peak_bytes >= 0
        assert (way.of_bare is not None) == (way.name in ("vsp", "vsp --no-sharing"))
        assert (way.times_vsp is not None) == (way.name in recording)


def test_the_cost_of_what_is_recorded_is_the_time_over_that_of_states_alone(benches):
    """Each way has one round here, so the ratio of times is that of the rates."""
    for found in benches:
        assert found.option_tokens == (2, 1, 3, 3) and not found.notes
        plain = {way.batch: way.rows_per_second for way in found.ways if way.name == "vsp"}
        costs = [way for way in found.ways if way.times_vsp]
        assert len(costs) == 4 and found.best.name in ("vsp", "vsp --no-sharing")
        for way in costs:
            assert way.times_vsp == pytest.approx(plain[way.batch] / way.rows_per_second)


def test_ratios_are_those_of_the_rates(benches):
    for found in benches:
        one = found.ways[0].rows_per_second
        for way in found.ways:
            assert way.times_plain == pytest.approx(way.rows_per_second / one)
        assert found.best.rows_per_second == max(
            way.rows_per_second for way in found.ways if way.name in ("vsp", "vsp --no-sharing")
        )


def test_the_ceilings_of_host_and_device_stand_beside_each_other(benches):
    for found in benches:
        assert found.pictures_per_core > 0
        bare = [way.rows_per_second / way.of_bare for way in found.ways if way.of_bare]
        assert found.forward_rows_per_second == pytest.approx(max(bare))
    own, shared = benches  # its prompts are tokenised for fewer pictures
    assert shared.pictures_per_core < 1.5 * own.pictures_per_core


def test_all_ways_give_the_states_of_transformers(benches):
    for found in benches:
        assert 0 < found.difference < 1e-5


def test_rows_an_image_are_distributed_as_in_vrd():
    counts = rows_per_image(10_000)
    assert sum(counts) == 10_000
    assert 5 < np.mean(counts) < 6 and max(counts) == 23 and min(counts) == 1


def test_a_planned_run_is_measured_on_its_own_rows(vsp, work, spatial, checkpoint):
    plan = ("plan", "--model", "llava15", "--checkpoint", checkpoint, "--quantization", "none",
            "--dataset", spatial)  # fmt: skip
    assert vsp(*plan).returncode == 0
    answer = vsp("bench", "--rows", 8, "--batch-size", 4, "--workers", 0)
    assert answer.returncode == 0, answer.stderr
    assert "8 rows of the dataset, 8 images" in answer.stdout
    assert "the plan's 96 rows take about" in answer.stdout
    assert all(len(line) <= 80 for line in answer.stdout.splitlines())


def test_a_model_without_its_weights_can_be_measured_quantized(vsp, tmp_path):
    """The folder has the configuration, the tokenizer and the image processor only."""
    folder = tiny.write_qwen(tmp_path / "qwen", "2")
    (folder / "model.safetensors").unlink()
    arguments = ("bench", "--model", "qwen2", "--checkpoint", folder, "--rows", 4)
    refused = vsp(*arguments)
    assert refused.returncode == 1 and "weight files are missing" in refused.stderr
    answer = vsp(*arguments, "--weights", "random", "--batch-size", 2, "--json", "--workers", 0)
    assert answer.returncode == 0, answer.stderr
    own, shared = json.loads(answer.stdout)
    assert own["best"]["name"] == "vsp" and shared["best"]["rows_per_second"] > 0


def test_a_model_that_transformers_does_not_serve_is_measured_without_it(vsp, spatial):
    answer = vsp("bench", "--model", "fake", "--dataset", spatial, "--rows", 8, "--batch-size", 4)
    assert answer.returncode == 0, answer.stderr
    assert "vsp" in answer.stdout and "transformers, batched" not in answer.stdout
    assert "vsp, answers" in answer.stdout and "answers: 4 options of" in answer.stdout


def test_a_bench_measures_what_its_run_records_unless_told_otherwise(vsp, work, spatial):
    def names(*options):
        answer = vsp("bench", "--rows", 4, "--batch-size", 4, "--workers", 0, "--json", *options)
        assert answer.returncode == 0, answer.stderr
        (found,) = json.loads(answer.stdout)
        return [way["name"] for way in found["ways"]]

    assert vsp("plan", "--model", "fake", "--dataset", spatial, "--lens", "--positions",
               "image", "--modules", "projector").returncode == 0  # fmt: skip
    also = ["image", "projector", "lens"]
    assert names() == ["vsp", "vsp, answers", *(f"vsp, answers, {one}" for one in also)]
    assert names("--no-answers", "--positions", "subject")[:2] == ["vsp", "vsp, subject"]
    assert vsp("plan", "--model", "fake", "--dataset", spatial, "--no-answers").returncode == 0
    assert names() == ["vsp"]


def test_a_bench_says_why_answers_are_not_measured(vsp, work, write_dataset):
    records = [{"id": str(i), "image_filename": f"{i}.png", "label": f"label {i}", "prompt": "Which?"}
               for i in range(18)]  # fmt: skip
    options = ("bench", "--model", "fake", "--dataset", write_dataset(records), "--batch-size", 4)
    answer = vsp(*options, "--workers", 0)
    assert answer.returncode == 0, answer.stderr
    assert "answers are not stored: rows have up to 18 options" in " ".join(answer.stdout.split())
    assert "vsp, answers" not in answer.stdout


def test_without_a_model_bench_needs_a_run(vsp, work):
    done = vsp("bench", "--rows", 4)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "run" in done.stderr
