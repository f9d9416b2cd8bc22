"""Write a small LLaVA checkpoint: real classes, real files, random weights, no network.

    python -m vsp.demo_checkpoint data/small-llava

It is loaded like llava-hf/llava-1.5-7b-hf, so the tests run the real loading code. Its weights are
random: a probe finds only the information that an untrained network passes on. `vsp.demo_training`
makes a trained one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils.logging import disable_progress_bar

from vsp.cli.output import print_line
from vsp.datasets import prompts
from vsp.datasets.relations import ON_AXIS
from vsp.datasets.synthetic.shapes import COLORS, SHAPES
from vsp.utils.streams import escape_output

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
PATCH_SIZE = 14
CONTEXT = 2048  # tokens


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the model. Widths are multiples of 64, the block size of 4-bit quantisation."""

    image: int = 112  # pixels a side
    n_layers: int = 6
    hidden: int = 128
    vision_layers: int = 3
    vision_hidden: int = 64


SMALL = Size()


def write_checkpoint(folder: Path, size: Size = SMALL, seed: int = 0) -> None:
    """Write configuration, weights, tokenizer and processor in `save_pretrained` layout."""
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(make_config(tokenizer, size))
        _enlarge(model)
    save_checkpoint(folder, model, tokenizer)


def save_checkpoint(
    folder: Path, model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Write the model with its tokenizer and its processor."""
    model.save_pretrained(folder)
    side: int = model.config.vision_config.image_size  # type: ignore[union-attr]
    processor = LlavaProcessor(
        image_processor=make_image_processor(side),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)  # older checkpoints keep it in its own file


def make_image_processor(side: int) -> CLIPImageProcessorPil:
    """CLIP's preprocessing for square images of `side` pixels."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )


def make_config(tokenizer: Any, size: Size) -> LlavaConfig:
    """The configuration of a LLaVA of this size, with the token ids of the tokenizer."""
    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=size.vision_hidden,
            intermediate_size=2 * size.vision_hidden,
            num_hidden_layers=size.vision_layers,
            num_attention_heads=4,
            image_size=size.image,
            patch_size=PATCH_SIZE,
            projection_dim=size.vision_hidden,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden,
            intermediate_size=2 * size.hidden,
            num_hidden_layers=size.n_layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(size.image // PATCH_SIZE) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def _enlarge(model: torch.nn.Module) -> None:
    """Scale the weights so that states are of order 1, so that 1e-4 is a meaningful tolerance."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on the prompts and answers of two synthetic tasks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=CONTEXT,
    )


def _corpus() -> Iterator[str]:
    """Conversations about two shapes, and about the colour of one."""
    for color in COLORS:
        for shape in SHAPES:
            thing = f"{color} {shape}"
            for form in prompts.SPATIAL.values():
                fields = {"subject": thing, "reference": thing}
                question = prompts.render(form, fields, list(ON_AXIS))
                for label in ON_AXIS:
                    yield conversation(question, label)
            for form in prompts.COLOR.values():
                yield conversation(prompts.render(form, {"shape": shape}, list(COLORS)), color)


def conversation(question: str, label: str) -> str:
    """A question behind an image and the answer, as the small model's template has them."""
    return f"USER: \n{question}\nASSISTANT: {prompts.label_words(label)}"


def main() -> None:
    """Write the checkpoint that the command line asks for."""
    escape_output()
    disable_progress_bar()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the weights (default: 0)"
    )
    for name, default in asdict(SMALL).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=default, help=f"default: {default}")
    given = parser.parse_args()
    size = Size(**{name: getattr(given, name) for name in asdict(SMALL)})
    write_checkpoint(given.folder, size, given.seed)
    print_line(f"wrote {given.folder}")


if __name__ == "__main__":
    main()
