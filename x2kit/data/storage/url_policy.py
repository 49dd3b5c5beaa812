"""Restrict the URLs of records to hosts and their paths to a folder. Imports no torch.

Data cannot choose the hosts that a run connects to; remote data cannot choose which local files are opened.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Self
from urllib.parse import unquote, urlsplit

from x2kit.data.storage.locations import is_url, join
from x2kit.errors import DataError, Reason, SettingError

ROOT = (
    "folder that paths in records may not leave, symbolic links resolved, {split} allowed; true for the folder that "
    "they are relative to, false for no limit; null for true if that folder or the file of the records is remote, "
    "else false"
)
"""Description of the setting."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class AllowedUrl(str):
    """A URL of a record, with the hosts that its redirects may lead to.

    Attributes:
        hosts: as in `require_allowed`.
    """

    hosts: tuple[str, ...]

    def __new__(cls, url: str, hosts: Iterable[str]) -> Self:
        allowed = super().__new__(cls, url)
        allowed.hosts = tuple(hosts)
        return allowed

    def __str__(self) -> str:
        return self  # a plain str would lose the hosts

    def __reduce__(self) -> tuple[type[AllowedUrl], tuple[str, tuple[str, ...]]]:
        return AllowedUrl, (str.__str__(self), self.hosts)


def hosts_of(location: str) -> Sequence[str] | None:
    """Return the hosts that redirects may lead to; None for any, if the recipe names the location."""
    return location.hosts if isinstance(location, AllowedUrl) else None


def check_hosts(setting: str, hosts: Iterable[str]) -> None:
    """Raise SettingError for a host without a scheme."""
    for host in hosts:
        if not is_url(host) or not urlsplit(host).netloc:
            raise SettingError(
                setting, f"expected scheme and host, such as https://{host.strip('/:')}; found {host}"
            )


def locate(name: str, start: str, hosts: Sequence[str], root: str | bool | None, file: str) -> str:
    """Resolve the path or URL of a record.

    Args:
        name: path or URL in the record.
        start: folder that paths are relative to.
        hosts: allowed hosts of URLs.
        root: folder that paths may not leave. True: `start`. False: no limit. None: `start` if it or `file` is
            remote, else no limit.
        file: file that contains the record.
    Raises: DataError for a URL of another host, and for a path outside the folder.
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
    """Return the URL. Raises DataError if it is outside all hosts and their folders.

    Args:
        url: URL in a record.
        hosts: scheme, host (or bucket) and optional folder: `https://images.example.org`, `s3://bucket/photos`.
    """
    hosts = tuple(hosts)
    if not is_allowed(url, hosts):
        raise url_error(f"the record names {url}", hosts)
    return AllowedUrl(url, hosts)


def is_allowed(url: str, hosts: Iterable[str]) -> bool:
    """Return whether a URL is on one of the hosts and in its folder."""
    return any(_is_inside(url, host) for host in hosts)


def url_error(found: str, hosts: Iterable[str]) -> DataError:
    """Build the error for a URL that is not allowed; `found` begins the message."""
    return DataError(
        f"{found}, but the recipe allows {', '.join(hosts) or 'no URL in records'}; "
        "to allow it, add its scheme and host to image_hosts of the source",
        reason=Reason.ADDRESS_REFUSED,
    )


def require_inside(location: str, root: str, name: str) -> str:
    """Return the location. Raises DataError if it is outside a folder, symbolic links resolved.

    Args:
        location: local path or URL.
        root: local or remote folder.
        name: path in the record, for the message.
    """
    if is_url(location) and is_url(root):
        inside = _is_inside(location, root)
    elif is_url(location) or is_url(root):
        inside = False
    else:
        inside = _is_below(location, root)
    if not inside:
        raise DataError(
            f"the record names {name}, which resolves to {location}, outside {root}; if you trust the record, set root "
            "of the source to a folder that contains it, or to false",
            reason=Reason.ADDRESS_REFUSED,
        )
    return location


def _is_below(location: str, root: str) -> bool:
    try:
        folder = os.path.realpath(root)
        return os.path.commonpath([folder, os.path.realpath(location)]) == folder
    except ValueError:  # a null character or a lone surrogate
        return False


def _is_inside(url: str, host: str) -> bool:
    """Compare scheme and host of two URLs, and check that the normalised path is below the other."""
    if "::" in url or _CONTROL.search(url):  # "::" chains URLs in fsspec
        return False
    (origin, path), (allowed_origin, folder) = _origin_and_path(url), _origin_and_path(host)
    return origin == allowed_origin and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def _origin_and_path(url: str) -> tuple[tuple[str, str], str]:
    """Split a URL into (scheme, host) and normalised path.

    URLs of other stores have no query, and their host may be the first folder.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    if scheme in _DEFAULT_PORTS:
        return (scheme, host.removesuffix(_DEFAULT_PORTS[scheme])), _normal(parts.path)
    return (scheme, ""), _normal(url.partition("://")[2])


def _normal(path: str) -> str:
    """Decode a path until no percent-encoding is left, and remove dot segments."""
    while (decoded := unquote(path)) != path:
        path = decoded
    return posixpath.normpath("/" + path.replace("\\", "/").lstrip("/"))
