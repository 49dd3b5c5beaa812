"""Run every benchmark and write docs/results/speed.md: `make bench`; that of a GPU: `make gpu`.

    python -m tests.benchmarks [NAME ...]

A benchmark is a program of its own. The page holds what each printed, as it printed it, and the machine that it ran on;
one that fails leaves its section as it was.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "results" / "speed.md"
NAMES = (
    "step",
    "retrieval",
    "encoding",
    "captions",
    "data",
    "feeding",
    "feature_cache",
    "million",
    "worker_memory",
    "start",
    "growth",
    "bench",
)
ON_REQUEST = ("gpu",)
"""Run only by name: `make gpu`."""
PARTS_OF_A_STEP = (
    "official/x2vlm-base",
    "--config",
    "overlays/built-in-data",
    "--steps",
    "2",
    "--training.device",
    "cpu",
)
"""Settings of `x2kit bench` on the page: base model, float32, 12 image-texts and 24 region-texts a step."""
HEAD = """# How fast it is

Written by `make bench`. Each benchmark does the same work in the plain way that the field uses and as x2kit does it,
checks that both give equal results, and times them in turns; `ratio` is how many times faster x2kit is. The plain
ways are in `tests/benchmarks/plain_*.py`, as slow and clear as they are. For your own recipe on your own machine, see
[Measure speed](../how-to/measure-speed.md).

How much is gained depends on what the rows of a batch share:

- Step, shared images: captions and regions are of the same images, as with `images_from`. x2kit encodes each
  image once for all its texts, the plain way once for each caption and once for the regions.
- Step, distinct images: every caption has an image of its own and regions are of others, as of two sources. Both
  ways encode each once; keys and values of its patches, padding, the second text pass and fused attention remain.
- Step, spread: lengths of real captions and names of regions. The plain way pads to 40 tokens, x2kit computes none of
  the padding; the second pair of figures compares it with its own step padded to the longest text of a stream.
- Retrieval: candidates of images and texts that are encoded already. A pair is scored once for both directions.
- Encoding: image files and captions to vectors. Threads decode while the model computes, which helps as far as there
  are cores; equal captions are encoded once, and a batch holds captions of similar length.
- Captions: generation with beam search. The plain way reads the text again for each token and copies the image to each
  beam; x2kit keeps keys and values, and the beams of an image share it.
- Data, images: decoding, crop, size, flip and augmentation.
- Data, whole batch: also cleaning, tokenising, masking, padding and collating, as a data worker does it.

The official code is not part of this repository, and the plain step stands in for it. Beside the official code itself
a review (issue 12 of the project, item 36) measured: the step 1.5 times as fast with distinct images (1 and 2
threads, equal losses), re-ranking 5.1 times, data 1.6 times with tokenising, masking and collation. These three are
quoted, not measured by `make bench`.

A GPU has a section of its own, `Gpu`, written by `make gpu` in one command: MFU, images a second, memory, a trace, the
plain formulation on the same card, all devices of the machine. As long as it is missing, no figure on this page was
measured on a GPU.
"""


def machine() -> str:
    """Describe the machine and the versions."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    best = torch.backends.cpu.get_cpu_capability()
    return (
        f"{processor}, {os.cpu_count()} logical processors, {best}; Python {platform.python_version()}, "
        f"torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}"
    )


def command_of(name: str) -> tuple[str, list[str]]:
    """A section of the page, and its command after `python`."""
    if name == "bench":
        return "Where a step of the base model spends its time, in float32.", [
            "-m",
            "x2kit",
            "bench",
            *PARTS_OF_A_STEP,
        ]
    title = (importlib.import_module(f"tests.benchmarks.{name}").__doc__ or name).splitlines()[0]
    return title, ["-m", f"tests.benchmarks.{name}"]


def section(name: str) -> str:
    """Run one benchmark. Raises SystemExit if it fails."""
    title, command = command_of(name)
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode:
        raise SystemExit(f"{name}: exit status {done.returncode}; {PAGE.name} is left as it was")
    shown = f"```text\n$ python {' '.join(command)}\n{done.stdout.strip()}\n```"
    return f"{title}\n\n{shown}\n\nOn {machine()}.\n"


def sections_of(page: str) -> dict[str, str]:
    """Read the sections of the current page, by benchmark."""
    parts = page.split("\n## ")[1:]
    return {_name(part.partition("\n")[0]): part.partition("\n")[2].strip("\n") + "\n" for part in parts}


def main(names: list[str]) -> None:
    """Run the named benchmarks, by default all, and replace the section of each on the page."""
    for name in names or NAMES:
        new = section(name)
        known = sections_of(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
        known[name] = new
        ordered = [f"## {_heading(one)}\n\n{known[one]}" for one in (*NAMES, *ON_REQUEST) if one in known]
        PAGE.write_text("\n".join([HEAD, *ordered]), encoding="utf-8")


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _name(heading: str) -> str:
    return heading.replace(" ", "_").lower()


if __name__ == "__main__":
    main(sys.argv[1:])
