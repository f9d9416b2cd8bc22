"""Answers of the small model, computed by transformers without vsp's models."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from vsp.datasets.synthetic.shapes import COLORS

RELATIONS = ("left of", "right of", "above", "below")
_BATCH = 25

# The prompts are written out here, so that a changed prompt in vsp does not change them.
_LABELS = "Choose ONE label from:\n[{}]\nRespond with ONLY the label. No explanation."
SPATIAL = {
    "statement": "The spatial relationship of {a} to {b} is",
    "cloze": "Considering the image, the {a} is positioned ___ the {b}. The answer is",
    "question": "Where is the {a} relative to the {b}? The {a} is",
    "instruction": "Determine the spatial relationship of '{a}' relative to '{b}'.\n"
    + _LABELS.format(", ".join(RELATIONS)),
}
COLOR = {
    "statement": "The color of the {a} is",
    "cloze": "Considering the image, the color of the {a} is ___. The answer is",
    "question": "What color is the {a}? The {a} is",
    "instruction": "Determine the color of the '{a}'.\n" + _LABELS.format(", ".join(COLORS)),
}


def text_of(record: dict, style: str) -> str:
    """The whole text that the model gets for a record of the spatial or colour world."""
    if "relation" in record:
        a, b = (f"{record[f'{w}_color']} {record[f'{w}_shape']}" for w in ("subject", "reference"))
        asked = SPATIAL[style].format(a=a, b=b)
    else:
        asked = COLOR[style].format(a=record["shape_type"])
    return f"USER: <image>\n{asked}\nASSISTANT:"


def label_of(record: dict) -> str:
    """The right answer in words."""
    return str(record.get("relation") or record["color_label"]).replace("_", " ")


def read_records(dataset: Path, n: int | None = None) -> list[dict]:
    """The first `n` rows that are held out."""
    records = json.loads((dataset / "metadata.json").read_text())
    return [record for record in records if record["split"] == "val"][:n]


class Answerer:
    """Greedy decoding in float32."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = LlavaForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32
        ).eval()
        self.processor = AutoProcessor.from_pretrained(checkpoint, backend="pil")
        self.processor.tokenizer.padding_side = "left"

    def answers(self, dataset: Path, records: list[dict], style: str) -> list[str]:
        """The decoded answer to each record."""
        found = []
        for start in range(0, len(records), _BATCH):
            part = records[start : start + _BATCH]
            pictures = [
                Image.open(dataset / "images" / r["image_filename"]).convert("RGB") for r in part
            ]
            texts = [text_of(record, style) for record in part]
            inputs = self.processor(images=pictures, text=texts, return_tensors="pt", padding=True)
            with torch.inference_mode():
                tokens = self.model.generate(**inputs, max_new_tokens=4, do_sample=False)
            new = tokens[:, inputs["input_ids"].shape[1] :]
            decoded = self.processor.batch_decode(new, skip_special_tokens=True)
            found += [text.strip() for text in decoded]
        return found

    def share_right(self, dataset: Path, records: list[dict], style: str) -> float:
        """Share of the records whose answer is the label, to the last letter."""
        said = self.answers(dataset, records, style)
        right = [a == label_of(r) for a, r in zip(said, records, strict=True)]
        return sum(right) / len(right)
