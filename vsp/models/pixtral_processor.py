"""The processor of Pixtral and Mistral 3, without torchvision.

transformers' class of this name imports torchvision, although its image processor has a version for
Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.processing_utils import ProcessorMixin


class PixtralProcessor(ProcessorMixin):
    """An image token for each square of patches, a mark after each row and one after the image."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        patch_size: int = 16,
        spatial_merge_size: int = 1,
        chat_template: str | None = None,
        image_token: str = "[IMG]",
        image_break_token: str = "[IMG_BREAK]",
        image_end_token: str = "[IMG_END]",
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self._square = patch_size * spatial_merge_size
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        self._break, self._end = image_break_token, image_end_token

    def _process_images(self, images: Any, **settings: Any) -> Any:
        return super()._process_images(images, **{**settings, "patch_size": self._square})

    def replace_image_token(
        self, image_inputs: Mapping[str, Any], image_idx: int, **_settings: Any
    ) -> str:
        height, width = image_inputs["image_sizes"][image_idx]
        row = self.image_token * int(width // self._square)
        return self._break.join([row] * int(height // self._square)) + self._end
