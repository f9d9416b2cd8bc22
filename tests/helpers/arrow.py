"""Small files as Hugging Face's libraries write them, made with pyarrow alone."""

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(seed=0, size=(12, 10)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table(columns, class_names=None):
    """A table; `class_names` is column → names of its numbers."""
    features = {
        name: {"names": names, "_type": "ClassLabel"} for name, names in (class_names or {}).items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(columns).replace_schema_metadata(metadata)


def write_parquet(path, columns, class_names=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(columns, class_names), path, **options)
    return path


def save_to_disk(folder, columns, class_names=None, rows=2, **state):
    """A folder as `save_to_disk` writes it, with one file of record batches of some rows."""
    folder.mkdir(parents=True, exist_ok=True)
    data = table(columns, class_names)
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, data.schema) as out:
        for batch in data.to_batches(max_chunksize=rows):
            out.write_batch(batch)
    described = {"_data_files": [{"filename": name}], "_indices_data_files": None, **state}
    (folder / "state.json").write_text(json.dumps(described))
    (folder / "dataset_info.json").write_text("{}")
    return folder
