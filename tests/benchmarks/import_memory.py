"""Peak memory of an import as the number of rows grows: `python tests/benchmarks/import_memory.py`.

Each import runs in a process of its own. Rows share 1,000 pictures of 12 × 10 pixels. Pages of a file
that is mapped, as an Arrow stream is, do not count: the system takes them back when it needs memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.arrow import png, save_to_disk, write_parquet

SIZES = (50_000, 500_000)


def write(source: str, folder: Path, n: int) -> Path:
    """A file of `n` questions with two options each, and a text that is not read."""
    pictures = [png(seed) for seed in range(1000)]
    columns = {
        "image": [{"bytes": pictures[i % 1000], "path": None} for i in range(n)],
        "question": [f"Where is object {i} relative to the other one?" for i in range(n)],
        "choices": [["left of", "right of"]] * n,
        "answer": [i % 2 for i in range(n)],
        "notes": [f"{i} " * 40 for i in range(n)],
    }
    if source == "csv":
        path = folder / "rows.jsonl"
        with path.open("w") as file:
            for i in range(n):
                row = {"image": f"{i % 1000}.png", "question": columns["question"][i],
                       "options": ["left of", "right of"], "answer": "left of"}  # fmt: skip
                file.write(json.dumps(row) + "\n")
        return path
    if source == "parquet":
        return write_parquet(folder / "rows.parquet", columns, row_group_size=100_000)
    return save_to_disk(folder / "rows", columns, rows=1000)


def peak(source: str, path: Path, out: Path) -> tuple[float, float]:
    """Megabytes and seconds of an import."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "run", source, str(path), str(out)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(said.split()[-1]), time.perf_counter() - start


def run(source: str, path: Path, out: Path) -> None:
    from vsp.datasets.importers.import_request import ImportRequest
    from vsp.datasets.importers.pipeline import import_dataset

    peaks = [0]

    def watch() -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            peaks[0] = max(peaks[0], int(status.split("RssAnon:")[1].split()[0]))
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    import_dataset(ImportRequest(source, [str(path)], out), Path())
    print(peaks[0] / 1024)


def main() -> None:
    for source in ("csv", "parquet", "load_from_disk"):
        for n in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                path = write(source, Path(folder), n)
                megabytes, seconds = peak(source, path, Path(folder) / "out")
            print(f"{source}: {n:,} rows, peak {megabytes:,.0f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
