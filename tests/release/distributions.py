"""Check the names, contents and metadata of a built wheel and source distribution."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from pathlib import Path

from packaging.metadata import ExceptionGroup, Metadata
from packaging.version import Version
from trove_classifiers import classifiers

import x2kit

ROOT = Path(__file__).parents[2]
MOST_BYTES = 2_000_000
SHIPPED = ("x2kit/", "plugins/", "recipes/")
"""Folders of the repository whose tracked files, and no others, are in the wheel."""
PYTHONS = ("3.11", "3.13")
"""Versions of Python that were tried, each of which has a classifier: docs/reference/versions.md."""
PROJECT_FILES = {".gitignore", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO"}


def build(into: Path, isolated: bool = True) -> tuple[Path, Path]:
    """Build the source distribution, and from it the wheel.

    Args:
        into: an empty or missing folder.
        isolated: install the build backend into an environment of its own, which takes the network.
    Returns: the wheel and the source distribution.
    """
    options = [] if isolated else ["--no-isolation"]
    subprocess.run(
        [sys.executable, "-m", "build", *options, "--outdir", str(into), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return wheel, sdist


def faults(wheel: Path, sdist: Path) -> list[str]:
    """Return what is wrong with the distributions, empty if nothing is."""
    with zipfile.ZipFile(wheel) as file:
        inside = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    tracked = tracked_files()
    (folder,) = {name.partition("/")[0] for name in inside if ".dist-info/" in name}
    return [
        *size_faults(wheel),
        *wheel_name_faults((name for name in inside if not name.startswith(folder)), tracked),
        *sdist_name_faults(names_in(sdist), tracked),
        *path_faults(inside),
        *metadata_faults(inside[f"{folder}/METADATA"], x2kit.__version__),
        *entry_point_faults(inside[f"{folder}/entry_points.txt"].decode(), inside),
        *([] if f"{folder}/licenses/LICENSE" in inside else ["the wheel has no LICENSE"]),
    ]


def tracked_files() -> set[str]:
    """List the files of the repository that git knows, by their path with slashes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def size_faults(wheel: Path) -> Iterator[str]:
    """Compare the wheel with the limit of 2 MB."""
    if (size := wheel.stat().st_size) >= MOST_BYTES:
        yield f"{wheel.name} has {size:,} bytes; at most {MOST_BYTES:,} are allowed"


def wheel_name_faults(names: Iterable[str], tracked: set[str]) -> Iterator[str]:
    """Compare the modules and data of the wheel with the tracked files of the shipped folders."""
    expected = {_in_wheel(name) for name in tracked if name.startswith(SHIPPED)}
    found = set(names)
    yield from (f"the wheel lacks {name}" for name in sorted(expected - found))
    yield from (
        f"the wheel has {name}, which git does not track or which is not shipped"
        for name in sorted(found - expected)
    )


def _in_wheel(name: str) -> str:
    if name.startswith("recipes/"):
        return f"x2kit/{name}"
    return name.removeprefix("plugins/")


def sdist_name_faults(names: Iterable[str], tracked: set[str]) -> Iterator[str]:
    """Compare the source distribution with what the wheel is built from."""
    expected = {name for name in tracked if name.startswith(SHIPPED)} | PROJECT_FILES
    found = set(names)
    yield from (f"the source distribution lacks {name}" for name in sorted(expected - found))
    yield from (
        f"the source distribution has {name}, which git does not track" for name in sorted(found - expected)
    )


def names_in(sdist: Path) -> list[str]:
    """List the files of a source distribution without its first folder."""
    with tarfile.open(sdist) as file:
        return [member.name.partition("/")[2] for member in file if member.isfile()]


def path_faults(inside: dict[str, bytes]) -> Iterator[str]:
    """Look for folders of the machine that built the wheel."""
    here = re.compile("|".join(re.escape(f"{folder}/") for folder in (ROOT, Path.home())).encode())
    for name, content in sorted(inside.items()):
        if found := here.search(content):
            yield f"{name} has a path of this machine: {found[0].decode()}"


def metadata_faults(text: bytes, version: str) -> Iterator[str]:
    """Validate the metadata as an index does, and compare it with what the repository says."""
    try:
        metadata = Metadata.from_email(text, validate=True)
    except ExceptionGroup as group:
        yield from (f"metadata: {fault}" for fault in group.exceptions)
        return
    if metadata.version != Version(version):
        yield f"metadata has version {metadata.version}, x2kit.__version__ is {version}"
    if metadata.license_expression != "MIT":
        yield f"metadata has License-Expression {metadata.license_expression}, expected MIT"
    if metadata.description_content_type != "text/markdown":
        yield f"the description has type {metadata.description_content_type}, expected text/markdown"
    if message_from_bytes(text).get_payload() == "" and not metadata.description:
        yield "metadata has no description"
    named = metadata.classifiers or []
    yield from (f"no such classifier: {name}" for name in named if name not in classifiers)
    pythons = tuple(name.rpartition(" ")[2] for name in named if re.search(r"Python :: 3\.\d+$", name))
    if pythons != PYTHONS:
        yield f"classifiers name Python {', '.join(pythons)}; tried were {', '.join(PYTHONS)}"
    for requirement in metadata.requires_dist or []:
        if requirement.url:
            yield f"{requirement} has an address, which an index refuses"


def entry_point_faults(text: str, inside: Iterable[str]) -> Iterator[str]:
    """Check that the module of each entry point is in the wheel."""
    names = set(inside)
    for line in text.splitlines():
        module = line.partition("=")[2].partition(":")[0].strip().replace(".", "/")
        if module and not names & {f"{module}.py", f"{module}/__init__.py"}:
            yield f"entry point {line!r}: no such module in the wheel"


def changelog_faults(changelog: str, version: str) -> Iterator[str]:
    """Check that the changelog has a section of this version with an entry."""
    found = re.search(
        rf"^## {re.escape(version)}(?= |$)[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if found is None:
        yield f"CHANGELOG.md has no section '## {version}'"
    elif not re.search(r"^- ", found[1], re.MULTILINE):
        yield f"CHANGELOG.md: the section {version} has no entry"
