"""Open, sample and resume sources of a billion records: tar shards and JSON Lines.

    python -m tests.benchmarks.billion [SHARDS]

The files are hard links of few, so that the disk holds megabytes instead of terabytes; every file has its own entry in
the cache, a link as well. What is measured is what a data worker does: list the files, compare their sizes and times
with the cache, and read the records of a step at the beginning, in the middle and at the end of an epoch, each in a
process of its own. The opening before, which fills the table of counts and digests, is that of the first start.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from x2kit.data.index.lines import LineIndex
from x2kit.data.index.tar_members import MemberIndex
from x2kit.data.storage import files, index_cache

SHARDS, RECORDS = 100_000, 10_000
LINKS = 50_000
"""Links of one file; ext4 allows 65,000."""
MAX_SECONDS, MAX_MIB = 1.0, 200.0

_WORKER = """
import json, sys, time
from pathlib import Path
from x2kit.data.pipeline.order import StreamOrder
from x2kit.data.sources.config import JsonLines, TarShards
from x2kit.data.sources import json_lines, tar_shards

def own():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

kind, pattern = sys.argv[1:]
config = {"tar": TarShards, "jsonl": JsonLines}[kind](files=(pattern,))
before, began, used = own(), time.perf_counter(), time.process_time()
source = config.open()
opened = time.process_time() - used
order = StreamOrder(0, "images", len(source))
for first in (0, len(source) // 2, len(source) - 32):
    for slot in order.slots(first, 32):
        assert source[slot.record]
print(json.dumps({
    "records": len(source),
    "opening": opened,
    "processor": time.process_time() - used,
    "wall": time.perf_counter() - began,
    "MiB": own() - before,
}))
"""


def write_shard(file: Path) -> None:
    """Write a shard of records with a text alone."""
    with tarfile.open(file, "w") as shard:
        for number in range(RECORDS):
            text = f"a photograph of thing {number}".encode()
            member = tarfile.TarInfo(f"{number:09}.txt")
            member.size = len(text)
            shard.addfile(member, io.BytesIO(text))


def write_lines(file: Path) -> None:
    """Write records with a text alone."""
    with file.open("w") as lines:
        for number in range(RECORDS):
            lines.write(json.dumps({"caption": f"a photograph of thing {number}"}) + "\n")


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[str, bool], object], str]] = {
    "tar": (write_shard, MemberIndex, "tar members"),
    "jsonl": (write_lines, LineIndex, "lines"),
}


def link(folder: Path, kind: str, shards: int) -> None:
    """Make the files and their entries in the cache."""
    write, open_index, what = KINDS[kind]
    first = folder / f"000000.{kind}"
    for number in range(shards):
        file = folder / f"{number:06}.{kind}"
        if number % LINKS == 0:
            first = file
            write(file)
        else:
            os.link(first, file)
    time.sleep(index_cache.RACY_SECONDS + 0.5)
    entries = {}
    for number in range(shards):
        file = folder / f"{number:06}.{kind}"
        entry = index_cache._entry([files.stat(str(file))], what)
        if number % LINKS == 0:
            open_index(str(file), True)
            entries[kind] = entry
        else:
            os.link(entries[kind], entry)


def run(kind: str, folder: Path) -> dict[str, float]:
    """Return what one worker took."""
    command = [sys.executable, "-c", _WORKER, kind, str(folder / f"*.{kind}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print seconds and MiB of the first start and of later ones."""
    shards = int(sys.argv[1]) if len(sys.argv) > 1 else SHARDS
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["X2KIT_CACHE"] = str(Path(temporary) / "cache")
        os.environ["OMP_NUM_THREADS"] = "1"
        for kind in KINDS:
            folder = Path(temporary) / kind
            folder.mkdir()
            link(folder, kind, shards)
            for name in ("first", "later"):
                found = run(kind, folder)
                print(
                    f"{kind}, {shards:,} files, {found['records']:,} records, {name} start: opened in "
                    f"{found['opening']:.2f} s, with 96 records {found['processor']:.2f} s of the processor "
                    f"({found['wall']:.2f} s elapsed), {found['MiB']:.0f} MiB",
                    flush=True,
                )
            assert found["MiB"] < MAX_MIB, f"a worker takes {found['MiB']:.0f} MiB, more than {MAX_MIB:.0f}"
            assert found["processor"] < MAX_SECONDS, f"{found['processor']:.2f} s, more than {MAX_SECONDS}"


if __name__ == "__main__":
    main()
