"""Runs with answers, lens and states at several positions: plan, files, resume and verification."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from vsp import models
from vsp.choices import MODULES, POSITIONS, module_positions
from vsp.errors import ConfigError, DatasetError, InputError, RunError
from vsp.extraction.answer_options import OptionTexts
from vsp.extraction.extract import extract
from vsp.extraction.largest_batch import largest_batch
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.preprocess import prepare
from vsp.extraction.verify import repair, verify
from vsp.models.fake import Fake, FakeProcessor
from vsp.storage.journal import Journal
from vsp.storage.plan import sealed_plan
from vsp.storage.run import Run
from vsp.utils.files import json_sha256

ARRAYS = ["states", "states-subject", "states-reference", "states-image", "states-subject-box",
          "states-reference-box", "states-vision-image", "states-vision-subject-box",
          "states-vision-reference-box", "states-projector-image", "states-projector-subject-box",
          "states-projector-reference-box", "answers", "lens"]  # fmt: skip


@pytest.fixture(autouse=True)
def whole_picture(monkeypatch):
    """The one token of the fake model's image lies in every box."""
    monkeypatch.setattr("vsp.extraction.positions._box_places", lambda *_: (0,))


def _full(plan_fake, **changes):
    given = {"n_shards": 3, "positions": POSITIONS, "modules": MODULES, "lens": True}
    return plan_fake(**{**given, **changes})


def _bytes(run):
    return {name: store.path.read_bytes() for name, store in run.stores.items()}


def _arrays(run):
    """The arrays as numpy reads them, without padding."""
    n = run.plan.n_samples
    arrays = {name: np.load(store.path, mmap_mode="r") for name, store in run.stores.items()}
    return {name: a[:n] if a.ndim == 2 else a[:, :n] for name, a in arrays.items()}


def test_every_array_holds_what_the_model_records(plan_fake):
    run = _full(plan_fake)
    assert list(run.stores) == ARRAYS and len(run.shards) == 3
    extract(run, run.shards)
    arrays, model = _arrays(run), models.read_model(run.plan.model)
    processor = models.read_processor(run.plan.model)
    rows = list(run.manifest.rows())
    lens = arrays["lens"][:, : 4 * 5].reshape(-1, 4, 5)  # [sample, option, layer]
    for row in (0, 31, 95):
        sample, tokens = rows[row], dict(rows[row].tokens_of)
        picture = processor.picture(Image.open(sample.image).convert("RGB"))
        prompt = processor.row(picture, sample.prompt)
        # The last letter of the name, as it stands in the prompt.
        end = sample.prompt.index(sample.subject) + len(sample.subject)
        assert tokens["subject"] == 1 + len(sample.prompt[:end].encode()) - 1
        tower = model._tower @ picture.arrays["pixels"]
        assert np.allclose(arrays["states-vision-image"][:, row], tower) and tower.shape == (3, 32)
        entering = model._token_states(picture, ())[:1]
        assert np.allclose(arrays["states-projector-image"][:, row], entering)
        for position in ("subject", "reference"):
            expected = model._token_states(picture, prompt.tokens[1 : tokens[position] + 1])
            assert np.allclose(arrays[f"states-{position}"][:, row], expected)
        for number, text in enumerate(("left of", "right of", "above", "below")):
            option = f" {text}".encode()
            last = model._token_states(picture, prompt.tokens[1:])
            expected = last @ model.option_weights(tuple(option)) - 100 - len(option)
            assert np.allclose(arrays["answers"][row, number], expected[-1])
            assert np.allclose(lens[row, number], expected)
    assert np.isnan(arrays["answers"][:, 4:]).all() and np.isnan(arrays["lens"][:, 4 * 5 :]).all()
    assert arrays["answers"].dtype == arrays["lens"].dtype == np.float32


def test_no_two_shards_share_a_page_in_any_array(plan_fake):
    for n_shards in (1, 2, 5):
        run = _full(plan_fake, n_shards=n_shards)
        for store in run.stores.values():
            layout = store.layout
            cuts = [layout.offset(k, start) for k in range(layout.n_layers)
                    for start in run.plan.shard_starts[1:]]  # fmt: skip
            assert all(cut % run.plan.boundary == 0 for cut in cuts)
            assert store.path.stat().st_size == layout.n_bytes
            assert store.path.stat().st_blocks * 512 >= layout.n_bytes  # reserved
        if n_shards == 1:
            assert run.stores["answers"].layout.shape[1] == 4  # no wider than it must be


def test_a_task_killed_at_any_moment_resumes_byte_equal_in_all_arrays(plan_fake, work):
    whole = _full(plan_fake, options={"pause": 0.0})
    extract(whole, whole.shards)
    run = _full(plan_fake, options={"pause": 0.004}, batch_size=2)
    code = (
        "import sys; sys.path[:0] = ['.'];"
        "import vsp.extraction.positions as p; p._box_places = lambda *_: (0,);"
        "from vsp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    rng, n_killed = random.Random(0), 0
    for _ in range(3):
        task = subprocess.Popen(
            [sys.executable, "-c", code, "extract", "--run", run.name], cwd=work,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        before = sum(ledger.n_done for ledger in run.ledgers())
        wanted = before + rng.randrange(1, 12)
        until = time.monotonic() + 30
        while sum(one.n_done for one in run.ledgers()) < wanted and task.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(task.pid, signal.SIGKILL) if task.poll() is None else None
        n_killed += task.wait() == -signal.SIGKILL
    assert n_killed
    extract(run, run.shards)
    for name, array in _arrays(run).items():
        assert array.tobytes() == _arrays(whole)[name].tobytes(), name
    assert not verify(run, n_jobs=1).bad


def test_a_damaged_value_of_any_array_is_found_and_computed_again(plan_fake):
    run = _full(plan_fake)
    extract(run, run.shards)
    whole = _bytes(run)
    for number, store in enumerate(run.stores.values()):
        with store.path.open("r+b") as file:
            file.seek(store.layout.offset(store.layout.n_layers - 1, 40 + number) + 3)
            file.write(b"\x7f")
    found = verify(run, n_jobs=1)
    assert found.bad and sorted(row for rows in found.bad.values() for row in rows) == [
        40 + number for number in range(len(ARRAYS))
    ]
    files = [store.path.name for store in run.stores.values()]
    assert {name: rows for (_, name), rows in found.damage.items()} == {
        name: [40 + number] for number, name in enumerate(files)
    }
    repair(run, found.bad)
    extract(run, run.shards)
    assert _bytes(run) == whole and not verify(run, n_jobs=1).bad


def test_a_journal_with_checksums_of_other_arrays_is_refused(plan_fake):
    run = _full(plan_fake)
    with Journal(run.journals, run.plan.id, 0) as journal:
        journal.mark_done([0, 1], [5, 6])
    with pytest.raises(Exception, match="is not an entry of shard 0"):
        run.ledgers()


@pytest.mark.parametrize(
    ("value", "options"),
    [(np.inf, 1), (-np.inf, 0), (np.nan, 1), (np.nan, slice(None))],
)
def test_an_option_whose_value_is_not_finite_fails_its_row_and_is_not_written(
    plan_fake, monkeypatch, value, options
):
    run = plan_fake(n_shards=1)
    outputs = Fake._outputs

    def spoilt(self, rows, recorded, edits):
        out = outputs(self, rows, recorded, edits)
        if recorded.n_options:
            out.answers[0, options] = value
        return out

    monkeypatch.setattr(Fake, "_outputs", spoilt)
    extract(run, run.shards)
    (ledger,) = run.ledgers()
    assert 0 < ledger.n_failed < 96
    assert {*ledger.failed.values()} == {"answers: the log-likelihood of an option is not finite"}
    answers = _arrays(run)["answers"]
    assert np.isfinite(answers[ledger.rows_done, :4]).all()
    assert not answers[sorted(ledger.failed)].any()


OWN = ["near it", "far from it", "behind it"]


def _records(n=8):
    return [
        {"id": str(i), "image_filename": f"{i}.png", "label": OWN[i % 2], "prompt": f"Where is {i}?",
         "options": OWN[: 2 + i % 2]}
        for i in range(n)
    ]  # fmt: skip


def test_rows_have_options_of_their_own(work, write_dataset):
    folder = write_dataset(_records())
    run = plan_run(PlanRequest(folder, models.resolve("fake"), n_shards=1), work).run
    assert run.plan.answers.options == () and run.plan.answers.n_options == 3
    extract(run, run.shards)
    answers = _arrays(run)["answers"]
    for row, sample in enumerate(run.manifest.rows()):
        assert sample.options == tuple(f" {text}" for text in OWN[: 2 + row % 2])
        assert sample.option_tokens == tuple(tuple(text.encode()) for text in sample.options)
        assert np.isfinite(answers[row]).sum() == len(sample.options)
    same = [{**record, "options": OWN} for record in _records()]
    run = plan_run(PlanRequest(write_dataset(same, "same"), models.resolve("fake")), work).run
    assert [one.text for one in run.plan.answers.options] == [f" {text}" for text in OWN]
    assert all(not one.options and not one.option_tokens for one in run.manifest.rows())


@pytest.mark.parametrize(
    "options", ["left", ["a"], ["a", "a"], ["a", " "], ["a", 3], ["a", "\ud800"]]
)
def test_options_that_are_no_list_of_different_texts_are_refused(work, write_dataset, options):
    records = [{**record, "options": options} for record in _records()]
    with pytest.raises(DatasetError, match=r"record 0 has options"):
        plan_run(PlanRequest(write_dataset(records), models.resolve("fake")), work)


def test_answers_are_stored_by_default_where_options_are_few(work, write_dataset):
    def planned(n_labels, **changes):
        records = [{**record, "label": f"label {i % n_labels}", "options": []}
                   for i, record in enumerate(_records(max(40, n_labels)))]  # fmt: skip
        folder = write_dataset(records, f"{n_labels}-{len(changes)}")
        return plan_run(PlanRequest(folder, models.resolve("fake"), **changes), work)

    assert planned(16).run.plan.answers.n_options == 16
    many = planned(17)
    assert many.run.plan.answers is None and list(many.run.stores) == ["states"]
    assert "answers are not stored: rows have up to 17 options" in " ".join(many.notes)
    assert planned(17, answers=True).run.plan.answers.n_options == 17
    assert planned(3, answers=False).run.plan.answers is None
    assert planned(18, answer_start="none").run.plan.answers.start == "none"
    with pytest.raises(ConfigError, match="a row has 1001 options; a run stores at most 1000, use"):
        planned(1001, answers=True)
    with pytest.raises(ConfigError, match=r"^--lens is about .* leave out --no-answers"):
        planned(4, answers=False, lens=True)
    with pytest.raises(
        ConfigError, match=r"^--answer-start none is about stored answers; leave out"
    ):
        planned(5, answers=False, answer_start="none")


def test_answers_that_no_one_asked_for_cost_no_row(work, write_dataset, monkeypatch):
    """Neither a first image that the model cannot take nor options of a later row stop the plan."""
    records = [{**record, "options": OWN} for record in _records()]
    records[-1]["options"] = ["left", "LEFT"]
    folder, picture = write_dataset(records), FakeProcessor.picture

    def lower(*arguments):
        return tuple(tuple(option.lower().encode()) for option in arguments[-1])

    monkeypatch.setattr(FakeProcessor, "option_tokens", lower)
    first = Image.open(folder / "images" / records[0]["image_filename"])
    wide = first.resize((999, 3))
    wide.save(first.filename)

    def refuse(self, image, depth=None):
        if image.size == wide.size:
            raise InputError("image is too wide")
        return picture(self, image, depth)

    monkeypatch.setattr(FakeProcessor, "picture", refuse)
    planned = plan_run(PlanRequest(folder, models.resolve("fake"), drop_unreadable=True), work)
    n_lost = sum(one["image_filename"] == records[0]["image_filename"] for one in records)
    assert planned.run.plan.n_samples == len(records) - n_lost
    assert "options ' left', ' LEFT' have the same tokens" in " ".join(planned.notes)
    assert planned.run.plan.answers is None
    assert not any(one.option_tokens for one in planned.run.manifest.rows())
    with pytest.raises(DatasetError, match="cannot be used"):
        plan_run(PlanRequest(folder, models.resolve("fake"), answers=True), work)


def test_a_family_without_answers_says_so_and_refuses_them_only_if_asked(
    plan_fake, work, spatial, monkeypatch
):
    def refuse(*_):
        raise InputError("answer option ' above' changes the tokens of its prompt")

    monkeypatch.setattr(FakeProcessor, "option_tokens", refuse)
    planned = plan_run(PlanRequest(spatial, models.resolve("fake")), work)
    assert planned.run.plan.answers is None
    assert any("answers are not stored: answer option ' above'" in note for note in planned.notes)
    with pytest.raises(DatasetError, match="cannot be used") as caught:
        plan_fake(answers=True)
    assert "changes the tokens of its prompt" in caught.value.details[0]


@pytest.mark.parametrize(
    ("behind", "start", "joined"),
    [
        ("\nASSISTANT:", "auto", " left of"),
        ("", "auto", " left of"),
        ("<|im_end|>\n<|im_start|>assistant\n", "auto", "Left of"),
        ("<|assistant|>", "auto", "Left of"),
        ("[/INST]", "auto", "Left of"),
        ("\n", "space", " left of"),
        (":", "none", "left of"),
        (":", "space-capital", " Left of"),
        (":", "none-capital", "Left of"),
    ],
)
def test_the_end_of_the_template_decides_how_an_option_joins_it(behind, start, joined):
    texts = OptionTexts.of(start, ["left_of", "élan"], behind)
    assert texts.common[0] == joined and texts.of_row(()) == texts.common
    assert texts.of_row(("left of", "x"))[0] == joined
    assert texts.start != "auto"


# Keys that plans of format 3 do not have.
_LATER = ("positions", "answers", "modules", "tower_layers", "tower_width", "imported", "effects",
          "together")  # fmt: skip


def test_a_run_of_format_3_is_read_resumed_and_verified(plan_fake):
    """Older plans have no positions and no answers; nothing else differs."""
    new = plan_fake(n_shards=2, answers=False)
    values = {k: v for k, v in new.plan.model_dump(mode="json").items()
              if k not in _LATER}  # fmt: skip
    old = new.plan.model_validate({**values, "format": 3})
    assert old.positions == ("last",) and old.answers is None
    sealed = {k: v for k, v in sealed_plan(old).items() if k not in (*_LATER, "sha256")}
    (new.folder / "plan.json").write_text(json.dumps({**sealed, "sha256": json_sha256(sealed)}))
    for store in new.stores.values():
        store.path.unlink()
    run = Run(new.folder, old)
    run.store.create()
    run = Run.open(new.folder)
    assert run.plan.format == 3 and list(run.stores) == ["states"]
    # The identity is in the header of the array, so it must stay what it was.
    no_part = ("id", "name", "created", "vsp", "packages", "dataset", "variants", "devices",
               *_LATER)  # fmt: skip
    unused = {"adapter", "frame", "stored_quantization"}
    text = old.model_dump_json(exclude={**dict.fromkeys(no_part, True), "model": unused})
    assert run.plan.identity() == sha256(text.encode()).hexdigest()
    extract(run, run.shards)
    assert verify(run, n_jobs=1).n_checked == 96
    with pytest.raises(RunError, match="position 'image' was not recorded; it has last"):
        run.states("image")


def test_a_batch_has_room_for_the_tokens_of_options(plan_fake):
    with_answers, without = plan_fake(), plan_fake(answers=False)
    # " left of", " right of", " above" and " below" begin with one common space.
    added = len({text[:n] for text in (" left of", " right of", " above", " below")
                 for n in range(1, len(text))})  # fmt: skip
    assert with_answers.plan.answers.n_tokens == added
    assert with_answers.plan.batch_tokens == without.plan.batch_tokens + 16 * added


def test_a_place_that_changed_since_the_plan_fails_its_row(plan_fake):
    run = _full(plan_fake)
    sample = next(run.manifest.rows())
    moved = replace(sample, tokens_of=(("image", 3),))
    found = prepare(models.read_processor(run.plan.model), [{0: moved}])
    assert found.failures == {0: "position image has 1 tokens, planned were 3; plan the run again"}


def test_modules_are_read_at_the_image_unless_positions_name_it_or_boxes(plan_fake):
    plan = plan_fake(modules=("vision",)).plan
    assert plan.stored_positions == ("last", "vision-image")
    assert module_positions(["projector"], ["last", "subject"]) == ("projector-image",)
    assert module_positions(MODULES, ["last", "subject-box"]) == (
        "vision-subject-box", "projector-subject-box",
    )  # fmt: skip
    assert (plan.tower_layers, plan.tower_width) == (3, 32)
    values = plan.model_dump(mode="json")
    for changes in ({"tower_layers": 0}, {"tower_width": 0}, {"modules": ["projector"]}):
        with pytest.raises(ValueError, match="are not those of a recorded vision tower"):
            plan.model_validate({**values, **changes})


def test_the_memory_of_a_plan_counts_everything_that_is_recorded(plan_fake, work):
    def load(**changes):
        run = plan_fake(n_shards=1, batch_size=4, share=False, **changes)
        return run.plan, largest_batch([run], [list(run.manifest.rows())], 10)

    plan, states = load(answers=False)
    assert (states.n_positions, states.averaged, states.n_queries) == (1, (), 0)
    assert not states.lens and not states.branched
    plan, answers = load()
    assert answers.n_queries == answers.n_rows * (1 + plan.answers.n_tokens)
    assert answers.branched and not answers.lens
    assert answers.n_tokens == states.n_tokens + plan.answers.n_tokens
    _, both = load(lens=True, positions=("last", "subject", "image"))
    sample = next(_full(plan_fake).manifest.rows())
    n_image = dict(sample.tokens_of)["image"]
    assert both.lens and both.n_positions == 2 and both.averaged == (both.n_rows * n_image,)
