"""CPU time of preparing pictures, in a worker and in the process that takes them over.

    python tests/benchmarks/picture_cost.py --checkpoint data/small-llava [--model llava15]

Each row has a picture of its own: JPEGs of 640 × 480 like photographs, and PNGs of 448 × 448 with
flat shapes. One worker prepares all rows and sends them; its start counts too. To compare two
versions, run the script with each of them in turns (PYTHONPATH) and compare ratios.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from vsp import models
from vsp.extraction.batches import batches_with
from vsp.extraction.plan import PlanRequest, plan_run
from vsp.extraction.preprocess import prepared
from vsp.storage.run import Run

Draw = Callable[[np.random.Generator], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="llava15")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--rows", type=int, default=300, help="default: %(default)s")
    given = parser.parse_args()
    config = models.resolve(given.model, checkpoint=given.checkpoint, quantization="none")
    for kind, draw in (("jpg", _photograph), ("png", _shapes)):
        with TemporaryDirectory() as name:
            folder = Path(name)
            _write_dataset(folder / "data", kind, draw, given.rows)
            request = PlanRequest(folder / "data", config, batch_size=16, n_shards=1)
            worker, parent, n_bytes = _cost(plan_run(request, folder).run)
        print(
            f"{kind}: worker {1e3 * worker / given.rows:.2f} ms a row, parent "
            f"{1e3 * parent / given.rows:.2f} ms, {n_bytes / given.rows / 1e3:,.0f} kB a picture"
        )


def _cost(run: Run) -> tuple[float, float, int]:
    """CPU seconds of a worker and of this process, and bytes of the pictures' arrays."""
    (shard,) = run.shards
    processor = models.read_processor(run.plan.model)
    batches = batches_with([run], shard, set(range(shard.start, shard.stop)))
    children, started, n_bytes = _children(), time.process_time(), 0
    with prepared(processor, batches, workers=1) as ready:
        for batch in ready:
            arrays = [array for group in batch.groups for array in group.picture.arrays.values()]
            n_bytes += sum(array.nbytes for array in arrays)
    return _children() - children, time.process_time() - started, n_bytes


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _photograph(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    return coarse.resize((640, 480), Image.Resampling.BICUBIC)


def _shapes(rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (448, 448), "white")
    draw = ImageDraw.Draw(image)
    for x, y in rng.integers(0, 350, (2, 2)).tolist():
        draw.ellipse((x, y, x + 90, y + 90), tuple(rng.integers(0, 256, 3).tolist()))
    return image


def _write_dataset(folder: Path, kind: str, draw: Draw, n_rows: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for i in range(n_rows):
        draw(rng).save(folder / f"images/{i}.{kind}", quality=90)
    rows = [
        {"id": str(i), "image_filename": f"{i}.{kind}", "label": "ab"[i % 2], "prompt": f"{i}, up?"}
        for i in range(n_rows)
    ]
    (folder / "metadata.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
