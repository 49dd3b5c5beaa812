"""Upload a folder to the Hugging Face Hub in one commit. Imports huggingface_hub when it is called.

One commit with all files: `upload_folder` of huggingface_hub splits large folders into several commits, of which some
may be missing after an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from x2kit.errors import X2KitError
from x2kit.publishing.folder import CARD, CODE, PICKLES, PUBLISHED, PreviousCard, parse_published
from x2kit.publishing.target import HUB, Target

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub._commit_api import CommitOperation

OTHER_WAY = "  --to DIR writes the same folder without a network"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token with write permission"


@dataclass(frozen=True)
class Repository:
    """State of a repository before the upload.

    Attributes:
        exists: whether it is there.
        commit: head of the branch; None for a new repository.
        previous: its card.
        files: names of its files.
    """

    exists: bool
    commit: str | None
    previous: PreviousCard
    files: frozenset[str]


def inspect(target: Target, private: bool, pull_request: bool) -> Repository:
    """Check that an upload is possible, and read the card that is there. Changes nothing.

    Raises: X2KitError without a token or a network, for a missing branch, a pull request or a branch of a new
        repository, and for a public repository where `private` is wanted.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    assert target.repository is not None
    if pull_request and target.revision is not None:
        raise X2KitError(
            f"--pr with --revision {target.revision}: the Hub opens pull requests against main only; give one of both"
        )
    if get_token() is None:
        raise X2KitError(f"{target.address}: no token of the Hub; {LOGIN}\n{OTHER_WAY}")
    api = HfApi(library_name="x2kit")
    with hub_errors(target):
        try:
            api.whoami()
            info = api.model_info(target.repository)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return _new(target, pull_request)
        if private and not info.private:
            raise X2KitError(
                f"{target.address}: exists and is public, which --private does not change\n"
                f"  make it private first: hf repos settings {target.repository} --private"
            )
        try:
            branch = api.model_info(target.repository, revision=target.revision or "main")
        except RevisionNotFoundError as error:
            raise X2KitError(
                f"{target.address}: has no branch {target.revision}\n"
                f"  create it: hf repos branch create {target.repository} {target.revision}"
            ) from error
        files = frozenset(file.rfilename for file in branch.siblings or ())
        return Repository(True, branch.sha, _card_of(api, target, str(branch.sha), files), files)


def _new(target: Target, pull_request: bool) -> Repository:
    if pull_request or target.revision is not None:
        option = "--pr" if pull_request else f"--revision {target.revision}"
        raise X2KitError(
            f"{HUB}{target.repository}: does not exist, or your token may not see it; publish it without {option} first"
        )
    return Repository(False, None, PreviousCard(), frozenset())


def _card_of(api: HfApi, target: Target, commit: str, files: frozenset[str]) -> PreviousCard:
    found: dict[str, bytes] = {}
    with TemporaryDirectory(prefix="x2kit-card-") as folder:
        for name in (CARD, PUBLISHED):
            if name in files:
                path = api.hf_hub_download(str(target.repository), name, revision=commit, cache_dir=folder)
                found[name] = Path(path).read_bytes()
    generated, written = parse_published(found.get(PUBLISHED), f"{target.address}/{PUBLISHED}")
    return PreviousCard(found.get(CARD), generated, written)


def upload(
    folder: Path,
    target: Target,
    repository: Repository,
    *,
    private: bool = False,
    pull_request: bool = False,
    message: str | None = None,
) -> str:
    """Create the repository if it does not exist, and commit all files at once.

    Files of the last publication that are not in the folder are deleted; others are not touched.

    Args:
        folder: complete, without code.
        target: a repository.
        repository: of `inspect`; the commit fails if the branch has changed since.
        private: create a private repository.
        pull_request: open a pull request instead of changing main.
        message: of the commit.
    Returns: URL of the commit or the pull request.
    Raises: X2KitError with what to do.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    assert target.repository is not None
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    code = [name for name in names if Path(name).suffix.lower() in CODE | PICKLES]
    assert not code, f"code in the folder: {code}"  # folder.py leaves it out
    stale = sorted((repository.files & {*(repository.previous.files or {})}) - {*names})
    operations: list[CommitOperation] = [
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names),
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
    ]
    api = HfApi(library_name="x2kit")
    created = False
    try:
        with hub_errors(target):
            if not repository.exists:
                api.create_repo(target.repository, private=private or None, exist_ok=True)
                created = True
            done = api.create_commit(
                target.repository,
                operations,
                commit_message=message or f"Publish {target.name} with x2kit",
                revision=target.revision,
                create_pr=pull_request,
                parent_commit=repository.commit,
            )
    except X2KitError as error:
        if created:
            raise X2KitError(f"{error}\n  {target.repository} was created and is empty") from error
        raise
    return str(done.pr_url or done.commit_url)


@contextmanager
def hub_errors(target: Target) -> Iterator[None]:
    """Turn errors of huggingface_hub and its HTTP client into X2KitError with what to do."""
    from huggingface_hub import errors
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    # base class of the HTTP client, which is httpx or httpx2, depending on the version of huggingface_hub
    client_error: type[Exception] = vars(errors)["HTTPError"]
    where = f"{HUB}{target.repository}"
    try:
        yield
    except X2KitError:
        raise
    except LocalTokenNotFoundError as error:
        raise X2KitError(f"{where}: no token of the Hub; {LOGIN}\n{OTHER_WAY}") from error
    except HfHubHTTPError as error:
        raise X2KitError(f"{where}: {_refusal(error)}; nothing was published") from error
    except (OfflineModeIsEnabled, client_error, LocalEntryNotFoundError) as error:
        reason = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else str(error)
        raise X2KitError(f"{where}: the Hub cannot be reached: {reason}\n{OTHER_WAY}") from error
    except (OSError, ValueError, RuntimeError) as error:  # of the upload of large files, or invalid metadata
        raise X2KitError(f"{where}: the upload failed: {error}; nothing was published") from error


def _refusal(error: Exception) -> str:
    """Say why the Hub refused a call, and what to do."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = str(getattr(error, "server_message", None) or "").strip()
    detail = f" ({said})" if said else ""
    if status == 401:
        return f"the token is not valid{detail}; {LOGIN}"
    if status == 403:
        return (
            f"the token may not write here{detail}; use a token with write permission for this organisation, or "
            "another name. A pull request (--pr) needs none"
        )
    if status == 404:
        return f"no such repository or branch, or the token may not see it{detail}"
    if status in (409, 412):
        return f"the repository has changed since it was read{detail}; publish again"
    if status == 429:
        return f"too many requests{detail}; try again later"
    return f"the Hub answered {status}{detail or f': {error}'}"
