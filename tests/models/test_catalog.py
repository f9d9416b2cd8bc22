"""Models by name, and the errors of `vsp plan` about checkpoints."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.limited import Runner
from helpers.paths import ROOT
from huggingface_hub.errors import GatedRepoError

from vsp import models
from vsp.config import read_yaml
from vsp.errors import ConfigError, ModelError
from vsp.models import catalog
from vsp.models.checkpoints import check_weights, unavailable

SHIPPED = catalog.names(ROOT)
COMMIT, LATER = "a" * 40, "b" * 40
RGPT = Path(__file__).parent / "spatialrgpt/ckpt"


def _write(work, name, text):
    (work / catalog.FOLDER).mkdir(parents=True, exist_ok=True)
    (work / catalog.FOLDER / f"{name}.yaml").write_text(text)


# Names.


def test_the_shipped_models_are_of_every_family_that_reads_checkpoints():
    families = {catalog.find(name, ROOT).family for name in SHIPPED}
    assert families == set(models.FAMILIES.names()) - {"fake"}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_says_all_that_decides_its_states(name):
    written = read_yaml(ROOT / catalog.FOLDER / f"{name}.yaml")
    wanted = ("family", "checkpoint", "revision", "template", "quantization", "dtype")
    assert set(wanted) <= written.keys() <= {*wanted, "options"}
    found = catalog.find(name, ROOT)
    if (ROOT / written["checkpoint"]).exists():
        written["checkpoint"] = str(ROOT / written["checkpoint"])
    assert {key: getattr(found, key) for key in wanted} == {key: written[key] for key in wanted}
    assert "{instruction}" in found.template


def test_a_model_is_a_family_a_name_or_a_path(work):
    _write(work, "mine", "family: fake\noptions: {n_layers: 3}\n")
    shutil.copy(work / catalog.FOLDER / "mine.yaml", work / "other.yaml")
    mine = models.resolve("fake", options={"n_layers": 3})
    assert catalog.find("mine", work) == catalog.find("other.yaml", work) == mine
    assert catalog.find("fake", work) == models.resolve("fake")


def test_what_is_given_goes_over_the_file_and_options_are_merged(work):
    text = "family: spatialrgpt\ncheckpoint: a/b\nrevision: v1\noptions: {regions: mask}\n"
    _write(work, "mine", text)
    found = catalog.find("mine", work, quantization="8bit", options={"conversation": "vicuna_v1"})
    assert found.options == {"conversation": "vicuna_v1", "regions": "mask"}
    assert (found.checkpoint, found.revision, found.quantization) == ("a/b", "v1", "8bit")


def test_the_revision_of_a_file_is_not_taken_for_another_checkpoints(work):
    _write(work, "mine", "family: llava15\ncheckpoint: a/b\nrevision: v1\n")
    assert catalog.find("mine", work, checkpoint="c/d").revision is None
    assert catalog.find("mine", work, checkpoint="c/d", revision="v2").revision == "v2"


def test_the_shipped_checkpoint_is_found_from_any_folder_and_ones_own_goes_first(work):
    shipped = Path(str(catalog.find("small", work).checkpoint))
    assert shipped.resolve() == ROOT / "data/models/small-llava"
    (work / "data/models/small-llava").mkdir(parents=True)
    assert catalog.find("small", work).checkpoint == str(work / "data/models/small-llava")


def test_a_checkpoint_in_a_folder_is_found_from_anywhere(work):
    (work / "here").mkdir()
    _write(work, "mine", "family: llava15\ncheckpoint: here\n")
    assert catalog.find("mine", work).checkpoint == str(work / "here")
    assert catalog.find("llava15", work, checkpoint="here").checkpoint == str(work / "here")
    assert catalog.find("llava15", work, checkpoint="not/here").checkpoint == "not/here"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "mine",
            "family: fake\nquantisation: none",
            r"models/mine\.yaml: key 'quantisation' is not known; did you mean quantization",
        ),
        ("mine", "family: fake\nquantization: 3bit", r"models/mine\.yaml: quantization '3bit'"),
        ("mine", "checkpoint: a/b", r"models/mine\.yaml: family"),
        (
            "mine",
            "family: llava",
            r"mine\.yaml: family 'llava' is not known; did you mean llava15\? known: auto, fake",
        ),
        ("fake", "family: fake", r"fake\.yaml: a model family has that name too; rename the file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(work, name, text, message):
    _write(work, name, text)
    with pytest.raises(ConfigError, match=message):
        catalog.find(name, work)


def test_an_unknown_name_lists_families_and_files(work):
    first = ", ".join(sorted(SHIPPED)[:3])
    known = r"'gpt' is not known; known: auto, .*spatialrgpt; in configs/models/: "
    n, lists = len(SHIPPED), "`vsp models` lists all"
    with pytest.raises(ConfigError, match=rf"{known}{first}, … \({n} in all\); {lists}$"):
        catalog.find("gpt", work)
    _write(work, "mine", "family: fake")
    with pytest.raises(
        ConfigError, match=rf"did you mean mine\? known: .*: mine, .*\({n + 1} in all\)"
    ):
        catalog.find("mina", work)
    with pytest.raises(ConfigError, match=r"gpt\.yaml: no such file"):
        catalog.find("gpt.yaml", work)


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_a_written_shape_is_the_one_that_transformers_reads(work, checkpoint, dtype):
    from vsp.models.loading import decoder_shape, read_config

    config = catalog.find("llava15", work, checkpoint=str(checkpoint), dtype=dtype)
    whole = read_config(config)
    expected = decoder_shape(whole.get_text_config(), dtype, whole.dtype)
    assert models.shape(config) == expected
    shutil.copytree(checkpoint, work / "short")
    values = json.loads((work / "short/config.json").read_text())
    del values["text_config"]["num_hidden_layers"]  # transformers has a default
    (work / "short/config.json").write_text(json.dumps(values))
    short = catalog.find("llava15", work, checkpoint="short", dtype=dtype)
    assert models.shape(short).n_layers == 33


def test_a_model_without_a_checkpoint_asks_for_one(work):
    with pytest.raises(ModelError, match="names no checkpoint; give one with --checkpoint"):
        models.shape(catalog.find("auto", work))


# A cache of the hub, written by hand.


def _cached(cache: Path, name: str, commit: str, source: Path) -> Path:
    """Put a checkpoint into a cache as the hub's client does; the snapshot folder."""
    top = cache / f"models--{name.replace('/', '--')}"
    for file in (path for path in source.rglob("*") if path.is_file()):
        part = file.relative_to(source)
        blob = top / "blobs" / f"{commit[:1]}-{'-'.join(part.parts)}"
        link = top / "snapshots" / commit / part
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (top / "refs").mkdir(exist_ok=True)
    (top / "refs/main").write_text(commit)
    return top / "snapshots" / commit


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache of `offline` and `online`. Each test puts checkpoints of other names there."""
    return tmp_path_factory.mktemp("cache")


# Modules that the commands import. They are imported once, and the commands are forked.
MODULES = (
    "vsp.cli.main", "vsp.extraction.plan", "vsp.models.loading", "vsp.models.llava",
    "vsp.models.spatialrgpt", "vsp.models.vila_modules", "vsp.models.processor_trial",
    "vsp.models.checkpoint_processor", "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava", "transformers.models.llama.modeling_llama",
    "transformers.models.clip.modeling_clip", "transformers.models.siglip.modeling_siglip",
    "transformers.models.auto.image_processing_auto",
)  # fmt: skip


@pytest.fixture(scope="module")
def offline(cache, tmp_path_factory):
    """Runs commands that find checkpoints in the cache alone."""
    variables = {**os.environ, "HF_HUB_CACHE": str(cache)}
    process = Runner(tmp_path_factory.mktemp("offline"), MODULES, environment=variables)
    yield process
    process.close()


@pytest.fixture(scope="module")
def hub():
    """The address of a local hub, and the list of the paths that it was asked for."""
    with _hub("GatedRepo", "RepoNotFound", "RevisionNotFound") as hub:
        yield hub


@pytest.fixture(scope="module")
def online(cache, hub, tmp_path_factory):
    """Runs commands that may ask the local hub."""
    variables = {"HF_HUB_CACHE": str(cache), "HF_ENDPOINT": hub[0], "HF_HUB_OFFLINE": "0"}
    variables = {**os.environ, **variables}
    process = Runner(tmp_path_factory.mktemp("online"), MODULES, environment=variables)
    yield process
    process.close()


def _plan_of(work):
    (path,) = (work / "scratch").glob("*/plan.json")
    return json.loads(path.read_text())


def test_the_plan_pins_the_commit_and_tasks_load_that_one(
    offline, work, cache, checkpoint, spatial
):
    _cached(cache, "some/llava", COMMIT, checkpoint)
    asked = ("plan", "--model", "llava15", "--checkpoint", "some/llava", "--dataset", spatial)
    answer = offline.run(*asked, "--quantization", "none", "--limit", "8", folder=work)
    assert answer.code == 0, answer.err
    assert _plan_of(work)["model"]["revision"] == COMMIT
    # The branch changes; the run keeps its commit.
    later = _cached(cache, "some/llava", LATER, RGPT)
    assert (later.parent.parent / "refs/main").read_text() == LATER
    answer = offline.run("extract", "--workers", "0", folder=work)
    assert "8 rows done, 0 failed, 0 missing" in answer.out, answer.err


def test_a_checkpoint_in_parts_is_pinned_too(offline, work, cache, spatial):
    _cached(cache, "some/rgpt", COMMIT, RGPT)
    asked = ("plan", "--model", "spatialrgpt", "--checkpoint", "some/rgpt", "--dataset", spatial)
    answer = offline.run(*asked, "--limit", "8", "--revision", "main", folder=work)
    assert answer.code == 0, answer.err
    assert _plan_of(work)["model"]["revision"] == COMMIT


def test_a_checkpoint_in_a_folder_has_no_commit(work, checkpoint, spatial):
    from vsp.extraction.plan import PlanRequest, plan_run

    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    assert plan_run(PlanRequest(spatial, model, limit=8), work).run.plan.model.revision is None


# `vsp models`.


@contextmanager
def _hub(*codes: str) -> Iterator[tuple[str, list[str]]]:
    """A local hub that refuses every request; the error code is the one of `codes` in its path.

    Yields the hub's address and the list of requested paths.
    """
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            code = next((code for code in codes if code in self.path), "")
            self.send_response(403 if code == "GatedRepo" else 404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def _ran(process: Runner, code: str, folder: Path) -> list[str]:
    """The lines that the code prints in another process."""
    answer = process.run_code("from vsp.cli.main import main\n" + code, folder)
    assert answer.code == 0, answer.err
    return answer.out.splitlines()


def test_models_are_listed_with_what_is_known_and_the_hub_is_never_asked(
    online, hub, work, cache, checkpoint
):
    shutil.copytree(ROOT / catalog.FOLDER, work / catalog.FOLDER)
    _write(work, "broken", f"family: qwen2\ncheckpoint: {checkpoint}\n")
    _cached(cache, "llava-hf/llava-1.5-7b-hf", COMMIT, checkpoint)
    _cached(cache, "a8cheng/SpatialRGPT-VILA1.5-8B", COMMIT, RGPT)
    n_asked = len(hub[1])
    *lines, values = _ran(online, "main(['models'])\nmain(['models', '--json'])", work)
    assert len(hub[1]) == n_asked
    text, values = "\n".join(lines), json.loads(values)
    assert max(map(len, lines)) <= 80 and "\x1b" not in text
    cells = {line.split()[0]: line.split()[1:] for line in lines if line and line[0] != " "}
    assert cells["llava-1.5-7b"] == ["llava15", "7", "128", "4bit"]
    assert cells["spatialrgpt-8b"] == ["spatialrgpt", "5", "64", "4bit"]
    assert cells["gemma-3-4b"] == ["auto", "–", "–", "4bit"]
    assert " llava-hf/llava-onevision-qwen2-7b-ov-hf" in lines
    assert "hf download CHECKPOINT" in text
    said = " ".join(text.split())
    assert "broken cannot be used: " in said and "has model type llava," in said
    assert [value["name"] for value in values] == sorted([*SHIPPED, "broken"])
    by_name = {value["name"]: value for value in values}
    assert (by_name["llava-1.5-7b"]["n_layers"], by_name["gemma-3-4b"]["n_layers"]) == (7, None)
    assert "has model type llava" in by_name["broken"]["problem"]


def test_in_an_empty_folder_the_shipped_models_and_the_families_are_listed(vsp):
    answer = vsp("models")
    assert answer.returncode == 0
    assert answer.stderr == ""  # listing models logs no file
    assert {line.split()[0] for line in answer.stdout.splitlines() if line.strip()} >= set(SHIPPED)
    assert "auto, fake, llava15, qwen2, spatialrgpt" in answer.stdout


# Errors about checkpoints.


def _told(process: Runner, code: str, folder: Path = ROOT) -> list[str]:
    """The lines that the code prints in another process. Its `tell` prints the message of a ModelError."""
    program = (
        "from vsp import models\nfrom vsp.errors import ModelError\n"
        "def tell(call, *arguments, **changes):\n"
        "    try: call(models.resolve(*arguments, **changes)); print('fine')\n"
        "    except ModelError as error: print(error)\n"
    )
    return _ran(process, program + code, folder)


BOTH = (
    "tell(models.shape, 'llava15', checkpoint='some/model', revision='v2')\n"
    "tell(models.shape, 'spatialrgpt', checkpoint='some/model', revision='v2')\n"
)


def test_a_checkpoint_that_is_not_here_says_how_to_fetch_and_share_it(offline):
    told = _told(offline, BOTH)
    assert len(told) == 2
    for message in told:
        assert "'some/model' is neither a folder here nor in the hub's cache" in message
        assert ", and HF_HUB_OFFLINE=1 keeps vsp from asking the hub; download it where" in message
        assert "`hf download some/model --revision v2 --local-dir DIR`" in message
        assert "HF_HOME" in message and "HF_HUB_OFFLINE=1" in message
        assert "`environment` in jobs/slurm.yaml" in message and len(message.splitlines()) == 1


def test_what_the_hub_refuses_is_told_apart(online, hub):
    refused = {
        "GatedRepo": "is gated: ask for access on https://huggingface.co/some/GatedRepo, then "
        "`hf auth login` and download it: `hf download some/GatedRepo",
        "RepoNotFound": "is neither a folder here nor on the hub, or you have no access; correct",
        "RevisionNotFound": "has no revision 'v2'; choose another with --revision",
    }
    n_asked = len(hub[1])
    asked = "".join(BOTH.replace("some/model", f"some/{code}") for code in refused)
    told = _told(online, asked)
    assert len(hub[1]) > n_asked
    for line, code in zip(told, [code for code in refused for _ in range(2)], strict=True):
        assert line.startswith(f"checkpoint 'some/{code}' {refused[code]}")


def test_a_hub_that_does_not_answer_is_asked_once(online, hub, work):
    (work / "small-lava").mkdir()
    start = time.monotonic()
    lines = _told(online, "tell(models.check, 'llava15', checkpoint='small-llava')\n", work)
    assert time.monotonic() - start < 20
    assert [path for path in hub[1] if "small-llava" in path] == ["/api/models/small-llava"]
    assert lines[0].startswith(
        "checkpoint 'small-llava' is neither a folder here nor in the hub's cache, and the hub "
        "cannot be reached ("
    )
    assert "; did you mean the folder 'small-lava'? Otherwise download it where" in lines[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../nope", "'../nope' is no folder here and no name on a hub; "),
        ("a\x1b[2Jb", "is no folder here and no name on a hub; "),
        ("a\0b", "is no folder here and no name on a hub; "),
        ("x" * 5000, "is no folder here and no name on a hub; "),
        ("a/b/c", "'a/b/c' is no folder here and no name on a hub; "),
    ],
)
def test_a_name_that_no_checkpoint_can_have_is_one_line(work, name, said):
    for family in ("llava15", "spatialrgpt"):
        config = catalog.find(family, work, checkpoint=name)
        with pytest.raises(ModelError) as caught:
            models.check(config)
        assert said in str(caught.value) and len(str(caught.value)) < 600


def test_a_broken_file_hides_no_other_model(work, vsp):
    _write(work, "fine", "family: fake\n")
    _write(work, "broken", "family: [\n")
    _write(work, "unknown", "family: no-such\n")
    answer = vsp("models")
    assert answer.returncode == 0, answer.stderr
    told = " ".join(answer.stdout.split())
    assert "fine" in told and "llava-1.5-7b" in told
    assert "broken cannot be used: configs/models/broken.yaml: cannot be read as YAML" in told
    assert "unknown cannot be used: configs/models/unknown.yaml: family 'no-such'" in told
    problems = {one["name"]: one["problem"] for one in json.loads(vsp("models", "--json").stdout)}
    assert problems["fine"] is None and problems["broken"] and problems["unknown"]
    assert catalog.find("fine", work).family == "fake"


def test_a_gated_checkpoint_is_known_however_deep_the_reason_lies():
    gated = GatedRepoError.__new__(GatedRepoError)  # its constructor needs a response
    error = OSError("You are trying to access a gated repo.")
    error.__cause__ = gated
    config = models.resolve("auto", checkpoint="google/gemma-3-4b-it")
    for one in (gated, error):
        assert "gemma-3-4b-it' is gated: ask for access" in str(unavailable(config, one))
    assert "gated" not in str(unavailable(config, OSError("timeout")))
    assert "(timeout)" in str(unavailable(config, OSError("timeout")))


def test_a_folder_that_is_not_there_says_what_to_put_in_it(tmp_path):
    config = models.resolve("llava15", checkpoint=str(tmp_path / "none"))
    with pytest.raises(ModelError, match=f"--local-dir {tmp_path}/none`, or name another with"):
        models.shape(config)


def test_a_folder_without_a_configuration_is_fetched_again(tmp_path):
    config = models.resolve("llava15", checkpoint=str(tmp_path))
    with pytest.raises(
        ModelError, match=r"cannot be read \(.*; download it again: `hf download NAME"
    ):
        models.shape(config)


def test_a_half_downloaded_snapshot_is_refused_and_a_whole_one_with_leftovers_is_not(
    offline, cache, checkpoint
):
    whole = _cached(cache, "some/whole", COMMIT, checkpoint)
    half = _cached(cache, "some/half", COMMIT, checkpoint)
    parts = _cached(cache, "some/parts", COMMIT, RGPT)
    for snapshot in (whole, half):
        (snapshot.parent.parent / "blobs/c0ffee.12345678.incomplete").write_bytes(b"begun")
    (half / "model.safetensors").unlink()
    (parts / "llm/model.safetensors").unlink()
    fine, weights, llm = _told(
        offline,
        "tell(models.check, 'llava15', checkpoint='some/whole')\n"
        "tell(models.check, 'llava15', checkpoint='some/half')\n"
        "tell(models.check, 'spatialrgpt', checkpoint='some/parts')\n",
    )
    assert fine == "fine"
    assert weights.endswith(
        "1 of 1 weight files are missing or cut short, for example model.safetensors; a download "
        "was interrupted; download it: `hf download some/half`"
    )
    assert "/llm: 1 of 1 weight files" in llm and llm.endswith("`hf download some/parts`")


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _point(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def _garble(path):
    path.write_bytes(path.read_bytes()[:8] + b"x" * 100_000)


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _point, _garble])
def test_a_weight_file_that_is_not_whole_is_named(checkpoint, tmp_path, damage):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    config = models.resolve("llava15", checkpoint=str(folder))
    check_weights(config)
    damage(folder / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"missing or cut short, for example model\.safetensors; d"
    ):
        check_weights(config)
    left = folder / ".cache/huggingface/download/x.incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    with pytest.raises(ModelError, match=f"a download was interrupted; .* --local-dir {folder}`"):
        check_weights(config)


def test_weights_in_pieces_without_their_index_are_not_whole(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"1 of 2 .*, for example model\.safetensors\.index\.json"):
        check_weights(models.resolve("llava15", checkpoint=str(folder)))


def _typed(folder, model_type, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    return str(folder)


@pytest.mark.parametrize(
    ("family", "model_type", "message"),
    [
        ("qwen2", "llava", "has model type llava, not qwen2_vl or qwen2_5_vl; use --model llava15, or name"),
        ("llava15", "qwen2_5_vl", "has model type qwen2_5_vl, not llava; use --model qwen2, or name"),
        ("llava15", "gemma3", "has model type gemma3, not llava; use --model auto, or name"),
        ("llava15", "llama", "has model type llama, not llava; name another with --checkpoint"),
        ("llava15", "llava_llama", "has model type llava_llama, not llava; use --model spatialrgpt"),
        ("auto", "llava_llama", "not one that transformers loads .*; use --model spatialrgpt"),
        ("auto", "no_such_type", "has model type no_such_type, not one that .*; name another with"),
        ("spatialrgpt", "llava", "model_type is 'llava', not 'llava_llama'; use --model llava15"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_family_says_which_reads_it(
    checkpoint, tmp_path, family, model_type, message
):
    if model_type == "qwen2_5_vl":  # a LLaVA's configuration does not fit this type
        (tmp_path / "c").mkdir()
        (tmp_path / "c/config.json").write_text('{"model_type": "qwen2_5_vl"}')
        folder = str(tmp_path / "c")
    else:
        folder = _typed(tmp_path / "c", model_type, checkpoint)
    with pytest.raises(ModelError, match=message):
        models.shape(models.resolve(family, checkpoint=folder))
