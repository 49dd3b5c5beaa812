"""Which URLs a record may name: data decides nothing about where a run connects to. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from x2kit.data.files import is_url
from x2kit.errors import DataError, Reason, SettingError


def check_hosts(setting: str, hosts: Iterable[str]) -> None:
    """Raise SettingError for a host that is written without its scheme."""
    for host in hosts:
        if not is_url(host) or not urlsplit(host).netloc:
            raise SettingError(
                setting, f"expected a scheme and a host, such as https://{host.strip('/:')}; found {host}"
            )


def require_allowed(url: str, hosts: Iterable[str]) -> str:
    """The URL itself. Raises DataError if it leads to none of these hosts, or out of their folders.

    Args:
        url: as a record names it.
        hosts: scheme, host (or bucket) and perhaps a folder: `https://images.example.org`, `s3://bucket/photos`.
    """
    # "::" makes fsspec open one address through another
    if "::" not in url and any(_leads_into(urlsplit(url), urlsplit(host)) for host in hosts):
        return url
    raise DataError(
        f"the record names {url}, and the recipe allows {', '.join(hosts) or 'no URL in records'}; "
        "to allow it, write its scheme and host into the hosts of the source",
        reason=Reason.ADDRESS_REFUSED,
    )


def _leads_into(url: SplitResult, host: SplitResult) -> bool:
    folder = host.path.rstrip("/") + "/"
    return (
        (url.scheme.lower(), url.netloc.lower()) == (host.scheme.lower(), host.netloc.lower())
        and url.path.startswith(folder)
        and ".." not in url.path.split("/")
    )
