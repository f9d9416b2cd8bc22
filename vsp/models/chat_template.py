"""Renders a checkpoint's chat template for one image and one prompt.

The plan renders it once and keeps the result, so that a template that prints a date gives every task
the same prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vsp.config import ModelConfig
from vsp.errors import ModelError
from vsp.models.hub import local_folder
from vsp.utils.limits import FailedError, LimitError, run_limited
from vsp.utils.reading import read_json

_WRITE = "write the whole prompt, with <image> in it, as `template` of a file in configs/models/"


def render_prompt(config: ModelConfig, processor: Any, prompt: str) -> str:
    """The whole prompt as the processor takes it: one image and the text `prompt`.

    Raises ModelError if there is no template, if it fails, or if what it prints has not exactly one
    image and one prompt.
    """
    template = _select(config, _found(config, processor))
    # A template may escape, cut or choose by a prompt, or print the message as Python has it.
    other = f"{prompt} \"quoted\", 'quoted', <b>\nand much longer than the first one, ends here"
    whole: str
    whole, again = _render(config, processor, template, [prompt, other])
    _require_one(config, "image", _n_images(processor, whole))
    _require_one(config, "prompt", whole.count(prompt))
    same_end = whole.partition(prompt)[2] == again.partition(other)[2]
    if again.count(other) != 1 or not same_end or re.search(r"['\"]type['\"]", whole):
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: its chat template does not print the prompt as it stands; "
            f"{_WRITE}"
        )
    if "{instruction}" in whole:
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: its chat template prints '{{instruction}}', which stands "
            f"for the prompt; {_WRITE}"
        )
    return whole


def _render(config: ModelConfig, processor: Any, template: str, prompts: Sequence[str]) -> Any:
    """The rendered text of each prompt.

    A separate process renders them, because jinja's sandbox bounds neither time nor memory.
    """

    def render() -> list[str]:
        return [
            processor.tokenizer.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": prompt}],
                    }
                ],
                chat_template=template,
                add_generation_prompt=True,
                tokenize=False,
            )
            for prompt in prompts
        ]

    try:
        return run_limited(render)
    except FailedError as error:
        why = f"fails ({error})"
    except LimitError as error:
        why = str(error)
    raise ModelError(f"checkpoint {config.checkpoint!r}: its chat template {why}; {_WRITE}")


def _require_one(config: ModelConfig, what: str, n: int) -> None:
    if n == 1:
        return
    why = " (it is for text only)" if what == "image" and n == 0 else ""
    raise ModelError(
        f"checkpoint {config.checkpoint!r}: its chat template prints the {what} {n} times instead of "
        f"once{why}; {_WRITE}"
    )


def _n_images(processor: Any, whole: str) -> int:
    """How often the text that stands for an image is in a prompt."""
    names = (getattr(processor, name, None) for name in ("image_token", "boi_token"))
    return max(whole.count(name) for name in {"<image>", *names} if isinstance(name, str) and name)


def _select(config: ModelConfig, found: Any) -> str:
    """The template, or the one named `default` of several."""
    if isinstance(found, list):  # older files: a list of names and templates
        found = {
            str(one.get("name")): one.get("template") for one in found if isinstance(one, Mapping)
        }
    if isinstance(found, Mapping):
        if "default" not in found:
            raise ModelError(
                f"checkpoint {config.checkpoint!r} has chat templates named "
                f"{', '.join(map(str, found)) or 'nothing'}, and none named default; {_WRITE}"
            )
        found = found["default"]
    if not isinstance(found, str):
        raise ModelError(
            f"checkpoint {config.checkpoint!r}: its chat template is a {type(found).__name__}, not "
            f"text; {_WRITE}"
        )
    return found


def _found(config: ModelConfig, processor: Any) -> Any:
    """The template of the processor or the tokenizer, or of an older checkpoint's separate file."""
    for template in (processor.chat_template, processor.tokenizer.chat_template):
        if template is not None:
            return template
    path = local_folder(config) / "chat_template.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise ModelError(
            f"checkpoint {config.checkpoint!r} has no chat template; {_WRITE}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); {_WRITE}") from None
    return values.get("chat_template") if isinstance(values, Mapping) else values
