"""Measure seconds and memory of opening a file of a million records, with and without its index.

    python -m tests.benchmarks.million

Each opening is a process of its own. The memory is what the process has more after opening than before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from x2kit.data.storage.index_cache import RACY_SECONDS

RECORDS = 1_000_000
MAX_SECONDS, MAX_MIB = 2.0, 64.0

_OPEN = """
import sys, time
from pathlib import Path
from x2kit.data.sources.config import JsonLines
from x2kit.data.sources.json_lines import JsonLinesSource

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

before, began = resident(), time.perf_counter()
source = JsonLinesSource(JsonLines(files=(Path(sys.argv[1]),)))
print(len(source), time.perf_counter() - began, resident() - before)
source[len(source) - 1]
"""


def write(file: Path, records: int) -> None:
    """Write records with a caption and a path, as of a data set in folders."""
    with file.open("w") as lines:
        for number in range(records):
            record = {
                "image": f"{number // 1000:04}/{number:09}.jpg",
                "caption": f"a photograph of thing {number}",
            }
            lines.write(json.dumps(record) + "\n")


def opened(file: Path) -> tuple[int, float, float]:
    """Return records, seconds and MiB of one opening with a cache folder."""
    command = [sys.executable, "-c", _OPEN, str(file)]
    environment = {**os.environ, "X2KIT_CACHE": str(file.parent / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    count, seconds, mib = done.stdout.split()
    return int(count), float(seconds), float(mib)


def main() -> None:
    """Open the file two times and print both results."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "million.jsonl"
        write(file, RECORDS)
        print(f"{RECORDS:,} records, {file.stat().st_size / 2**20:.0f} MiB")
        time.sleep(RACY_SECONDS)  # a younger file is not cached
        for name in ("first", "second"):
            count, seconds, mib = opened(file)
            assert count == RECORDS
            print(f"{name} opening: {seconds:.2f} s, {mib:.0f} MiB")
        assert mib < MAX_MIB, f"the index takes {mib:.0f} MiB, more than {MAX_MIB:.0f}"
        assert seconds < MAX_SECONDS, f"opening again takes {seconds:.2f} s, more than {MAX_SECONDS}"


if __name__ == "__main__":
    main()
