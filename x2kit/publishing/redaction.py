"""Remove what identifies a person's machine from recipes and results. Imports no torch.

Absolute paths are cut to their last two names, which keeps data recognisable; user names, host names, credentials and
tokens are removed. URLs of public hosts stay, without user and query.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

REMOVED = "REMOVED"
HOST = "HOST"
KEPT_NAMES = 2
"""Last names of a path that are kept, more where two paths would become equal."""
_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>\\]+")
_PATH_IN_TEXT = re.compile(r"(?<![\w/.:~-])(?:~/|/)(?:[\w.@+={}*-]+/)+[\w.@+={}*-]*")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_HOMES = ("home", "Users", "root", "usr", "export")
_SECRET_KEY = re.compile(
    r"(^|_)(token|passw(or)?d|secret|api_?key|access_?key|credentials?)(_id)?$", re.IGNORECASE
)
_SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{12,}|"
    r"xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+)"
)
"""Tokens of the Hub, GitHub, OpenAI, AWS and Slack, and JSON web tokens."""


class Redactor:
    """Replaces identifying texts in JSON-like values, the same text always by the same replacement.

    Args:
        contents: all values that will be published, so that different paths keep different names.

    Attributes:
        replaced: replacement by original, for the message to the person; secrets are not in it.
        secrets: number of removed secrets.
    """

    def __init__(self, *contents: Any) -> None:
        self.replaced: dict[str, str] = {}
        self.secrets = 0
        self._host = platform.node().partition(".")[0]
        self._own = {_user(), self._host, Path.home().name} - {""}
        paths = {text for content in contents for text in _texts(content) if _is_path(text)}
        self._short = self._shortened(paths)

    def value(self, content: Any, key: str = "") -> Any:
        """Return the value with every identifying text replaced; `key` is its name in a mapping."""
        if isinstance(content, Mapping):
            return {self._key(name): self.value(item, str(name)) for name, item in content.items()}
        if isinstance(content, list | tuple):
            return [self.value(item, key) for item in content]
        if not isinstance(content, str):
            return content
        if content and _SECRET_KEY.search(key):
            self.secrets += 1
            return REMOVED
        return self.text(content)

    def _key(self, name: Any) -> Any:
        return self.text(name) if isinstance(name, str) and _is_path(name) else name

    def text(self, text: str) -> str:
        """Return a text with paths, URLs, host name and tokens replaced."""
        if _is_path(text):
            return self._note(text, self._path(text))
        found = _URL.sub(lambda match: self._note(match[0], self._url(match[0])), text)
        found = _PATH_IN_TEXT.sub(lambda match: self._note(match[0], self._path(match[0])), found)
        found, count = _SECRET.subn(REMOVED, found)
        self.secrets += count
        if len(self._host) > 3 and self._host != "localhost":
            found = re.sub(
                rf"(?<!\w){re.escape(self._host)}(?!\w)", lambda match: self._note(match[0], HOST), found
            )
        return found

    def is_of_this_machine(self, text: str) -> bool:
        """Whether a whole text is a path that exists here or lies in a home directory."""
        if not _is_path(text) or len(self._split(text)) < 2:
            return False
        return self._split(text)[0] in _HOMES or text.startswith("~/") or os.path.exists(text)  # noqa: PTH110  # too long names

    def _note(self, before: str, after: str) -> str:
        if before != after:
            self.replaced[before] = after
        return after

    def _path(self, path: str) -> str:
        return self._short.get(path) or "/".join(self._names(path)[-KEPT_NAMES:]) or REMOVED

    def _url(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "file":
            return self._path(parts.path)
        host = parts.netloc.rpartition("@")[2]
        if _is_private(host.partition(":")[0]) and parts.scheme in ("http", "https", "ftp", "sftp", "ssh"):
            return self._path(parts.path)
        return f"{parts.scheme}://{host}{parts.path}"

    def _names(self, path: str) -> list[str]:
        """Split a path into the names that identify nobody: without root, home directories, user and host."""
        names = self._split(path)
        if len(names) > 1 and names[0] in _HOMES[:2]:
            names = names[2:]
        return [name for name in names if name not in self._own and name not in (*_HOMES, "..", "~")]

    @staticmethod
    def _split(path: str) -> list[str]:
        """Split a path into its names, without the root."""
        plain = path.removeprefix("file://").removeprefix("~/")
        windows = _DRIVE.match(plain) or "\\" in plain
        names = (PureWindowsPath(plain) if windows else PurePosixPath(plain)).parts
        return [*(names[1:] if names and (names[0] == "/" or _DRIVE.match(names[0])) else names)]

    def _shortened(self, paths: set[str]) -> dict[str, str]:
        """Keep so many last names of each path that different paths stay different."""
        names = {path: self._names(path) for path in sorted(paths)}
        found: dict[str, str] = {}
        for path, parts in names.items():
            count = KEPT_NAMES
            while count < len(parts) and any(
                other != parts and other[-count:] == parts[-count:] for other in names.values()
            ):
                count += 1
            found[path] = "/".join(parts[-count:]) or REMOVED
        return found


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for item in content.values():
            yield from _texts(item)
    elif isinstance(content, list | tuple):
        for item in content:
            yield from _texts(item)


def _is_path(text: str) -> bool:
    """Whether a whole text is an absolute path: of one line, with a name."""
    if "\n" in text or len(text) > 4096 or re.match(r"//|/\s|/$", text):
        return False
    return text.startswith(("/", "~/", "file:///")) or bool(_DRIVE.match(text))


def _is_private(host: str) -> bool:
    """Whether a host is of a machine or a local network: a bare name, a private address, .local, .internal, .lan."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".intranet", ".corp"))
    return not address.is_global


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the user database, as in some containers
        return ""


def changed_keys(before: Any, after: Any, key: str = "") -> Iterator[str]:
    """Yield the dotted keys of texts that differ between a tree and its redacted form."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in before:
            if name in after:
                yield from changed_keys(before[name], after[name], f"{key}.{name}" if key else str(name))
    elif before != after:
        yield key
