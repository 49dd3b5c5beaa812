"""Parse where a model is published to: a directory, or a repository of the Hugging Face Hub. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from x2kit.errors import X2KitError

HUB = "hf-hub:"
"""Start of names of repositories on the Hugging Face Hub."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w.][\w./-]*")


@dataclass(frozen=True)
class Target:
    """Where a model is published to.

    Attributes:
        directory: written there; None for a repository.
        repository: ORGANISATION/NAME; None for a directory.
        revision: branch of the repository; None for main.
    """

    directory: Path | None
    repository: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """Short name of the model: of the directory or the repository."""
        if self.repository is not None:
            return self.repository.partition("/")[2]
        assert self.directory is not None
        return self.directory.resolve().name

    @property
    def address(self) -> str:
        """Name by which `x2kit.load` finds the model: hf-hub:…, or the directory's name from its parent."""
        if self.repository is None:
            return self.name
        return f"{HUB}{self.repository}{'' if self.revision is None else f'@{self.revision}'}"


def parse_target(to: str | Path, revision: str | None = None) -> Target:
    """Parse `--to` and `--revision`.

    Raises: X2KitError for an invalid repository or revision, two revisions, or a revision of a directory.
    """
    if not str(to).startswith(HUB):
        if revision is not None:
            raise X2KitError(
                f"--revision {revision}: only with --to {HUB}ORGANISATION/NAME; {to} is a directory"
            )
        return Target(Path(to))
    repository, at, branch = str(to).removeprefix(HUB).partition("@")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise X2KitError(
            f"--to {to}: expected {HUB}ORGANISATION/NAME with letters, digits, '.', '_' and '-', where '..' and '--' "
            "are not allowed"
        )
    if at and revision is not None and branch != revision:
        raise X2KitError(f"--to {to} and --revision {revision} name two revisions; give one")
    chosen = branch if at else revision
    if chosen is not None and (not _REVISION.fullmatch(chosen) or ".." in chosen):
        raise X2KitError(f"--revision {chosen!r}: expected the name of a branch")
    return Target(None, repository, None if chosen == "main" else chosen)
