"""The model with the heads that only the training needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from vsp.datasets.synthetic.shapes import COLORS, SHAPES, Shape
from vsp.demo_checkpoint import SMALL, Size, make_config, make_image_processor
from vsp.demo_training.scenes import CANVAS

SIZE = Size(SMALL.image, SMALL.n_layers, SMALL.hidden, vision_layers=4, vision_hidden=128)
PLACE_LAYER = 3  # hidden state of the decoder from which places and colours are read
_INITIAL_RANGE = 0.08  # standard deviation of the decoder's first weights
_NO_COLOR = len(COLORS)


class Learner(nn.Module):
    """A LLaVA and linear heads: of the tower's patches, and of the words that name a shape."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        config = make_config(tokenizer, SIZE)
        for part in (config, config.get_text_config()):
            part.initializer_range = _INITIAL_RANGE
        # On a CPU the backward pass of eager attention is faster than that of SDPA.
        self.llava = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager")
        self.patch_head = nn.Linear(SIZE.vision_hidden, _NO_COLOR + 1 + len(SHAPES) + 2)
        self.place_head = nn.Linear(SIZE.hidden, 2)
        self.color_head = nn.Linear(SIZE.hidden, len(COLORS))
        processor = make_image_processor(SIZE.image)
        self.mean, self.std = (torch.tensor(v) for v in (processor.image_mean, processor.image_std))

    def patches(self, pixels: np.ndarray) -> Tensor:
        """Pixels [image, height, width, 3], uint8 → the tower's states [image, patch, hidden]."""
        values = (torch.from_numpy(pixels).float() / 255 - self.mean) / self.std
        with fast_products():
            states = self.llava.model.vision_tower(
                values.permute(0, 3, 1, 2), output_hidden_states=True
            ).hidden_states
        layer = self.llava.config.vision_feature_layer
        patches: Tensor = states[layer][:, 1:].float()  # without the class token
        return patches

    def patch_parts(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the colours (the last one: none), scores of the kinds, and places."""
        scores = self.patch_head(patches)
        color, kind, place = scores.split([_NO_COLOR + 1, len(SHAPES), 2], dim=-1)
        return color, kind, place


def fast_products() -> torch.autocast:
    """Products in bfloat16 with AVX-512; on other processors they take 20 to 50 times as long as in float32."""
    is_fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast("cpu", torch.bfloat16, enabled=is_fast)


def places(shapes: Sequence[Shape]) -> Tensor:
    """Centres [shape, 2] as x and y from -1 to 1."""
    return torch.tensor([[s.x, s.y] for s in shapes]) / (CANVAS / 2) - 1


def color_numbers(shapes: Sequence[Shape]) -> Tensor:
    """The number of each shape's colour in COLORS."""
    return torch.tensor([list(COLORS).index(shape.color) for shape in shapes], dtype=torch.long)
