"""Chat templates: rendered once, with one image and one prompt, or refused in one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from vsp import models
from vsp.errors import ModelError
from vsp.extraction.extract import extract
from vsp.extraction.plan import PlanRequest, plan_run

GOOD = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{{ '\nASSISTANT:' }}"
)
DATED = "{{ strftime_now('%S.%f') }} " + GOOD
WRITE = "write the whole prompt, with <image> in it, as `template` of a file in configs/models/"


@pytest.fixture
def with_template(checkpoint, tmp_path):
    """A configuration of the small checkpoint with another chat template, as JSON has it."""

    def make(template, file="tokenizer_config.json"):
        folder = tmp_path / "templated"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint, folder)
        path = folder / file
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(values | {"chat_template": template}))
        return models.resolve("auto", checkpoint=str(folder), quantization="none")

    return make


NAMED = {"default": GOOD, "tool_use": "{{ nothing }}"}
LISTED = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": GOOD}]


@pytest.fixture(scope="module")
def own_states(checkpoint, spatial, tmp_path_factory):
    """States [layer, sample, hidden] of the family that has the template in its code."""
    model = models.resolve("llava15", checkpoint=str(checkpoint), quantization="none")
    request = PlanRequest(spatial, model, limit=8, name="llava")
    run = plan_run(request, tmp_path_factory.mktemp("own")).run
    extract(run, run.shards, workers=0)
    return np.load(run.folder / "states.npy")


@pytest.mark.parametrize(
    ("file", "several"),
    [
        *(("tokenizer_config.json", one) for one in (GOOD, NAMED, LISTED)),
        *(("processor_config.json", one) for one in (GOOD, NAMED)),
        *(("chat_template.json", one) for one in (GOOD, NAMED, LISTED)),
    ],
)
def test_the_default_of_several_templates_is_used(
    with_template, own_states, spatial, work, file, several
):
    config = with_template(several, file)
    assert models.read_processor(config).frame == "USER: <image>\n{instruction}\nASSISTANT:"
    run = plan_run(PlanRequest(spatial, config, limit=8, name="auto"), work).run
    extract(run, run.shards, workers=0)
    states = np.load(run.folder / "states.npy")
    assert np.array_equal(states, own_states) and np.abs(states[:, :8]).min(axis=2).max() > 0


def test_a_template_with_a_date_gives_every_task_the_prompt_of_the_plan(
    with_template, spatial, work
):
    config = with_template(DATED)
    run = plan_run(PlanRequest(spatial, config, limit=8, name="dated"), work).run
    frame = run.plan.model.frame
    assert frame.endswith("USER: <image>\n{instruction}\nASSISTANT:") and len(frame) > 40
    assert models.read_processor(run.plan.model).frame == frame
    assert models.read_processor(config).frame != frame  # rendered now
    extract(run, run.shards, workers=0)
    first = np.load(run.folder / "states.npy")
    again = plan_run(PlanRequest(spatial, run.plan.model, limit=8, name="again"), work).run
    extract(again, again.shards, workers=0)
    assert np.array_equal(first, np.load(again.folder / "states.npy"))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for x in %}", "its chat template fails (TemplateSyntaxError: "),
        ("{{ raise_exception('no system role') }}", "fails (TemplateError: no system role)"),
        ("{{ messages[0]['content'].strip() }}", "its chat template fails ("),
        ("{{ 1 / 0 }}", "its chat template fails (ZeroDivisionError: "),
        (GOOD.replace("<image>\n", ""), "prints the image 0 times instead of once (it is for text"),
        (
            "{{ messages[0]['content'] }}",
            "prints the image 0 times instead of once (it is for text",
        ),
        (GOOD.replace("<image>", "<image> <image>"), "prints the image 2 times instead of once; "),
        (GOOD.replace("{{ part['text'] }}", ""), "prints the prompt 0 times instead of once; "),
        (GOOD + "{{ messages[0]['content'][1]['text'] }}", "prints the prompt 2 times"),
        (
            {"rag": GOOD, "tool_use": GOOD},
            "has chat templates named rag, tool_use, and none named def",
        ),
        ([], "has chat templates named nothing"),
        (
            "USER: <image>\n{{ messages[0]['content'] }} A:",
            "does not print the prompt as it stands",
        ),
        (GOOD.replace("part['text']", "part['text'] | tojson"), "does not print the prompt as it"),
        (
            GOOD.replace("part['text']", "part['text'][:40]"),
            "does not print the prompt as it stands",
        ),
        (GOOD + "{{ '{instruction}' }}", "prints '{instruction}', which stands for the prompt; "),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_one_line(with_template, template, message):
    config = with_template(template)
    with pytest.raises(ModelError) as refused:
        models.check(config)
    said = str(refused.value)
    assert message in said and said.endswith(WRITE) and "\n" not in said


def test_a_checkpoint_without_a_template_asks_for_one(checkpoint):
    config = models.resolve("auto", checkpoint=str(checkpoint), quantization="none")
    with pytest.raises(ModelError, match=f"has no chat template; {WRITE}"):
        models.check(config)


def test_an_image_token_that_the_tokenizer_does_not_have_is_named(with_template, tmp_path):
    config = with_template(GOOD)
    path = tmp_path / "templated/config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"image_token_index": 77, "image_token_id": 77}))
    with pytest.raises(ModelError, match="no image token of number 77"):
        from PIL import Image

        models.check(config).picture(Image.new("RGB", (112, 112)))
