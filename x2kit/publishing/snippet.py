"""Write the example of a model card, and run it in fresh processes before it is published. Imports no torch.

The processes see an empty cache and no network, so the example also shows that the folder is complete.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from x2kit.errors import X2KitError
from x2kit.plugin.facts import ImageSpec
from x2kit.publishing.facts import Facts
from x2kit.publishing.target import Target

IMAGE, ARRAY = "example.png", "example.npy"
TEXTS = ("a red circle", "a blue square")
"""Texts of the drawn image; the first one describes it."""
SHOWN_LINES = 15
SECONDS = 900
"""Longest run of an example."""
COMMIT = "0" * 40
"""Name of the snapshot in the temporary cache."""


@dataclass(frozen=True)
class Snippet:
    """Example of a card with its output.

    Attributes:
        python: code.
        python_output: its standard output; empty before `execute`.
        shell: a command; None for a model that no command of the example fits.
        shell_output: its standard output.
    """

    python: str
    shell: str | None
    python_output: str = ""
    shell_output: str = ""


def write_snippet(facts: Facts, target: Target, texts: Sequence[str] = (), shipped: bool = False) -> Snippet:
    """Write the example for the parts that the model has.

    Args:
        facts: of the model.
        target: where it will be read from.
        texts: to compare with the image; `TEXTS` if empty.
        shipped: whether the folder has an image example.png; otherwise the example draws one.
    """
    image = ImageSpec(**facts.image)
    drawn = image.channels in (1, 3) and image.value_range is None
    file = IMAGE if shipped or drawn else ARRAY
    if shipped and target.repository is None:
        file = f"{target.name}/{IMAGE}"
    named = [plugin.name for plugin in facts.plugins if plugin.kind != "distribution"]
    lines = list(_fetching(target) if shipped else _drawing(image) if drawn else _array(image))
    lines += ["", f"model = x2kit.load({_string(target.address)}{_plugins(named)})"]
    shown = list(texts or TEXTS) if facts.reads_texts else []
    heads = facts.heads if shown else [head for head in facts.heads if head != "itm"]
    lines += _uses(heads, file, [_string(text) for text in shown])
    return Snippet("\n".join(lines) + "\n", _command(heads, target, shown, file, named))


def _uses(heads: Sequence[str], file: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield the lines that call the model; without texts only those that read the image."""
    if not {"itc", "itm"} & {*heads}:
        yield "print(model)"
        return
    if texts:
        yield f"texts = [{', '.join(texts)}]"
    if "itc" in heads:
        yield f"print(model.embed_images([{_string(file)}]).vectors.shape)"
    if texts and "itc" in heads:
        yield f"for text, similarity in zip(texts, model.similarity([{_string(file)}], texts)[0]):"
        yield '    print(f"similarity {similarity:.3f}  {text}")'
    if "itm" in heads:
        yield f"for match in model.match({_string(file)}, texts):"
        yield '    print(f"probability {match.probability:.3f}  {match.text}")'


def _plugins(names: Sequence[str]) -> str:
    return f", plugins=[{', '.join(map(_string, names))}]" if names else ""


def _string(text: str) -> str:
    """Format a string literal of Python with double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _drawing(image: ImageSpec) -> Iterator[str]:
    """Draw a red circle on white; a grey one for a single channel."""
    mode, paper, ink = ("L", "255", "80") if image.channels == 1 else ("RGB", '"white"', '"red"')
    yield "import x2kit"
    yield "from PIL import Image, ImageDraw"
    yield ""
    yield f'image = Image.new("{mode}", (256, 256), {paper})'
    yield f"ImageDraw.Draw(image).ellipse((64, 64, 192, 192), fill={ink})"
    yield f'image.save("{IMAGE}")'


def _array(image: ImageSpec) -> Iterator[str]:
    """Make a bright square on black for images that are not grey or RGB."""
    high = 255 if image.value_range is None else image.value_range[1]
    low = 0 if image.value_range is None else image.value_range[0]
    kind = "uint8" if image.value_range is None else "float32"
    yield "import numpy as np"
    yield "import x2kit"
    yield ""
    yield f'image = np.full((256, 256, {image.channels}), {low}, dtype="{kind}")'
    yield f"image[64:192, 64:192] = {high}"
    yield f'np.save("{ARRAY}", image)'


def _fetching(target: Target) -> Iterator[str]:
    """Copy the image of the repository to the working directory."""
    if target.repository is None:
        yield "import x2kit"
        return
    revision = "" if target.revision is None else f", revision={_string(target.revision)}"
    yield "from shutil import copyfile"
    yield ""
    yield "import x2kit"
    yield "from huggingface_hub import hf_hub_download"
    yield ""
    yield f'copyfile(hf_hub_download({_string(target.repository)}, "{IMAGE}"{revision}), "{IMAGE}")'


def _command(
    heads: Sequence[str], target: Target, texts: Sequence[str], file: str, plugins: Sequence[str]
) -> str | None:
    """Write the command for the shell, which reads the image that the Python example leaves."""
    options = [part for name in plugins for part in ("--plugin", name)]
    if "itm" in heads:
        wanted = [part for text in texts for part in ("--text", text)]
        return shlex.join(["x2kit", "match", file, "--model", target.address, *options, *wanted])
    if "itc" in heads:
        return shlex.join(["x2kit", "embed", file, "--model", target.address, *options])
    return None


def execute(snippet: Snippet, folder: Path, target: Target, plugins: Sequence[Path] = ()) -> Snippet:
    """Run the example as a reader would, and return it with its output.

    A folder lies beside the working directory under its name; a repository is in a cache of its own.

    Args:
        snippet: of `write_snippet`.
        folder: the complete folder.
        target: where it will be read from.
        plugins: file plugins that the model needs, which the folder does not hold.
    Raises: X2KitError, with the end of its messages, if the example fails.
    """
    with TemporaryDirectory(prefix="x2kit-example-") as name:
        place = Path(name)
        work = place / "work"
        work.mkdir()
        for plugin in plugins:
            copy = shutil.copytree if plugin.is_dir() else shutil.copyfile
            copy(plugin, work / plugin.name)
        environment = _environment(place)
        if target.repository is None:
            (work / target.name).symlink_to(folder.resolve())
        else:
            _fill_cache(place / "hub", folder.resolve(), target)
        printed = _run([sys.executable, "-c", snippet.python], work, environment)
        found = replace(snippet, python_output=printed)
        if snippet.shell is None:
            return found
        command = [sys.executable, "-m", "x2kit", *shlex.split(snippet.shell)[1:]]
        return replace(found, shell_output=_run(command, work, environment))


def _environment(place: Path) -> dict[str, str]:
    """Return the environment with empty caches and no network for the Hub's library."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {
        **kept,
        "HF_HOME": str(place / "hf"),
        "HF_HUB_CACHE": str(place / "hub"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "160",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _fill_cache(hub: Path, folder: Path, target: Target) -> None:
    """Write the layout of the Hub's cache, with a link to the folder as its snapshot."""
    assert target.repository is not None
    home = hub / f"models--{target.repository.replace('/', '--')}"
    (home / "snapshots").mkdir(parents=True)
    (home / "snapshots" / COMMIT).symlink_to(folder, target_is_directory=True)
    reference = home / "refs" / (target.revision or "main")
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT, encoding="utf-8")


def _run(command: Sequence[str], work: Path, environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise X2KitError(
            f"the example of the card did not end within {SECONDS} s; nothing was published"
        ) from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-SHOWN_LINES:])
        raise X2KitError(
            "the example of the card failed in a fresh process with an empty cache and no network, so the folder is "
            f"not complete; nothing was published\n{said}"
        )
    return done.stdout
