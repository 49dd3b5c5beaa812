"""Where a record may lead: hosts for its URLs, a folder for its paths. Imports no torch.

Data decides nothing about where a run connects to, and, where it comes from elsewhere, nothing about which files of
this machine are opened.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Self
from urllib.parse import unquote, urlsplit

from x2kit.data.storage.files import is_url, join
from x2kit.errors import DataError, Reason, SettingError

Root = str | bool | None
"""The setting `root` of a source; see `locate`."""
ROOT = (
    "folder that paths in records may not leave, symbolic links resolved, {split} allowed; true for the folder in "
    "which they start, false for none; null for true where that folder or the file of the records is remote, else false"
)
"""What the setting says of itself."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class AllowedUrl(str):
    """A URL that a record names, with the hosts that redirects from it may lead to.

    Attributes:
        hosts: as `require_allowed` takes them.
    """

    hosts: tuple[str, ...]

    def __new__(cls, url: str, hosts: Iterable[str]) -> Self:
        made = super().__new__(cls, url)
        made.hosts = tuple(hosts)
        return made

    def __str__(self) -> str:
        return self  # str() would lose the hosts

    def __reduce__(self) -> tuple[type[AllowedUrl], tuple[str, tuple[str, ...]]]:
        return AllowedUrl, (str.__str__(self), self.hosts)


def hosts_of(location: str) -> Sequence[str] | None:
    """The hosts that redirects from a location may lead to; None for any, where a recipe names the location."""
    return location.hosts if isinstance(location, AllowedUrl) else None


def check_hosts(setting: str, hosts: Iterable[str]) -> None:
    """Raise SettingError for a host that is written without its scheme."""
    for host in hosts:
        if not is_url(host) or not urlsplit(host).netloc:
            raise SettingError(
                setting, f"expected a scheme and a host, such as https://{host.strip('/:')}; found {host}"
            )


def locate(name: str, start: str, hosts: Sequence[str], root: Root, file: str) -> str:
    """Where the path or URL of a record leads.

    Args:
        name: as the record has it.
        start: folder in which paths start.
        hosts: that URLs may lead to.
        root: folder that paths may not leave. True: `start`. False: they may leave it. None: `start` if it or `file`
            is remote, else they may leave it.
        file: that holds the record.
    Raises: DataError for a URL that leads to none of the hosts, and for a path that leaves its folder.
    """
    if is_url(name):
        return require_allowed(name, hosts)
    location = join(start, name)
    if root is None:
        root = is_url(start) or is_url(file)
    if root is False:
        return location
    return require_inside(location, start if root is True else root, name)


def require_allowed(url: str, hosts: Iterable[str]) -> AllowedUrl:
    """The URL itself. Raises DataError if it leads to none of these hosts, or out of their folders.

    Args:
        url: as a record names it.
        hosts: scheme, host (or bucket) and perhaps a folder: `https://images.example.org`, `s3://bucket/photos`.
    """
    hosts = tuple(hosts)
    if not is_allowed(url, hosts):
        raise refused(f"the record names {url}", hosts)
    return AllowedUrl(url, hosts)


def is_allowed(url: str, hosts: Iterable[str]) -> bool:
    """Whether a URL leads to one of the hosts and stays in its folder."""
    return any(_is_inside(url, host) for host in hosts)


def refused(found: str, hosts: Iterable[str]) -> DataError:
    """The error for a URL that `is_allowed` denies; `found` says who leads there."""
    return DataError(
        f"{found}, and the recipe allows {', '.join(hosts) or 'no URL in records'}; "
        "to allow it, write its scheme and host into the hosts of the source (image_hosts)",
        reason=Reason.ADDRESS_REFUSED,
    )


def require_inside(location: str, root: str, name: str) -> str:
    """The location itself. Raises DataError if it lies outside a folder once symbolic links are resolved.

    Args:
        location: local path or URL.
        root: folder, local or remote.
        name: what the record says.
    """
    if is_url(location) and is_url(root):
        inside = _is_inside(location, root)
    elif is_url(location) or is_url(root):
        inside = False
    else:
        inside = _is_below(location, root)
    if not inside:
        raise DataError(
            f"the record names {name}, which leads to {location}, outside {root}; if the record is trusted, set root "
            "of the source to a folder that holds it, or to false",
            reason=Reason.ADDRESS_REFUSED,
        )
    return location


def _is_below(location: str, root: str) -> bool:
    try:
        folder = os.path.realpath(root)
        return os.path.commonpath([folder, os.path.realpath(location)]) == folder
    except ValueError:  # the character 0, or half a character
        return False


def _is_inside(url: str, host: str) -> bool:
    """Whether a URL has the scheme and host of another, and a path below its path however it is written."""
    if "::" in url or _CONTROL.search(url):  # "::" makes fsspec open one address through another
        return False
    (origin, path), (allowed_origin, folder) = _origin_and_path(url), _origin_and_path(host)
    return origin == allowed_origin and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def _origin_and_path(url: str) -> tuple[tuple[str, str], str]:
    """Scheme and host, and the normalised path.

    Elsewhere than on the web a path has no query, and the host may be its first folder.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    if scheme in _DEFAULT_PORTS:
        return (scheme, host.removesuffix(_DEFAULT_PORTS[scheme])), _normal(parts.path)
    return (scheme, ""), _normal(url.partition("://")[2])


def _normal(path: str) -> str:
    """A path with nothing percent-encoded and no dot segments, as a server that decodes it again and again reads it."""
    while (decoded := unquote(path)) != path:
        path = decoded
    return posixpath.normpath("/" + path.replace("\\", "/").lstrip("/"))
