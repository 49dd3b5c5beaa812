from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from x2kit.errors import X2KitError
from x2kit.publishing.folder import PreviousCard, write_card
from x2kit.publishing.target import Target
from x2kit.publishing.upload import inspect, upload

from .hub_server import READER, Hub, Repository

TARGET = Target(None, "me/tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small complete folder."""
    made = tmp_path / "tiny"
    (made / ".eval_results").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights")
    (made / ".eval_results" / "evaluation.yaml").write_text("[]")
    write_card(made, "---\nlibrary_name: x2kit\n---\n# tiny\n", PreviousCard(), "0.1.0")
    return made


def existing(hub: Hub, private: bool = False, **files: bytes) -> Repository:
    """A repository with these files, whose names have __ for a dot."""
    repository = Repository(private)
    repository.commits["0" * 40] = {name.replace("__", "."): content for name, content in files.items()}
    hub.repositories["me/tiny"] = repository
    return repository


def test_a_new_repository_gets_all_files_in_one_commit(hub: Hub, folder: Path) -> None:
    url = upload(folder, TARGET, inspect(TARGET, False, False))
    repository = hub.repositories["me/tiny"]
    assert repository.messages == ["Publish tiny with x2kit"]
    assert url.endswith(f"/me/tiny/commit/{repository.branches['main']}")
    assert repository.files() == {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repository_is_private_on_demand(hub: Hub, folder: Path, private: bool) -> None:
    upload(folder, TARGET, inspect(TARGET, private, False), private=private, message="first")
    assert hub.repositories["me/tiny"].private == private
    assert hub.repositories["me/tiny"].messages == ["first"]


def test_a_public_repository_is_not_used_where_a_private_one_is_wanted(hub: Hub) -> None:
    existing(hub)
    with pytest.raises(X2KitError, match="is public, which --private does not change"):
        inspect(TARGET, True, False)
    assert inspect(TARGET, False, False).exists


def test_a_pull_request_needs_no_right_to_write_and_leaves_main(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = existing(hub, README__md=b"# theirs")
    monkeypatch.setenv("HF_TOKEN", READER)
    url = upload(folder, TARGET, inspect(TARGET, False, True), pull_request=True)
    assert url == f"{hub.url}/me/tiny/discussions/1"
    assert repository.files() == {"README.md": b"# theirs"}
    assert "model.safetensors" in repository.files("refs/pr/1")


def test_a_branch_gets_the_commit(hub: Hub, folder: Path) -> None:
    repository = existing(hub)
    repository.branches["v2"] = "0" * 40
    target = Target(None, "me/tiny", "v2")
    upload(folder, target, inspect(target, False, False))
    assert repository.files() == {}
    assert "model.safetensors" in repository.files("v2")


def test_a_card_written_on_the_hub_counts_as_a_persons(hub: Hub) -> None:
    existing(hub, README__md=b"# theirs")
    previous = inspect(TARGET, False, False).previous
    assert previous.changed
    assert previous.text == b"# theirs"


def test_a_generated_card_is_replaced_and_an_edited_one_is_not(hub: Hub, folder: Path) -> None:
    upload(folder, TARGET, inspect(TARGET, False, False))
    assert not inspect(TARGET, False, False).previous.changed
    hub.repositories["me/tiny"].files()["README.md"] += b"edited"
    assert inspect(TARGET, False, False).previous.changed


def test_files_of_the_last_publication_are_deleted_and_others_stay(hub: Hub, folder: Path) -> None:
    (folder / "evaluation-old.json").write_text("{}")
    write_card(folder, "# old\n", PreviousCard(), "0.1.0")
    upload(folder, TARGET, inspect(TARGET, False, False))
    hub.repositories["me/tiny"].files()["thesis.pdf"] = b"years of work"
    (folder / "evaluation-old.json").unlink()
    write_card(folder, "# new\n", PreviousCard(), "0.1.0")
    upload(folder, TARGET, inspect(TARGET, False, False))
    files = hub.repositories["me/tiny"].files()
    assert "evaluation-old.json" not in files
    assert files["thesis.pdf"] == b"years of work"


def test_a_change_between_reading_and_writing_is_not_overwritten(hub: Hub, folder: Path) -> None:
    repository = existing(hub, README__md=b"# theirs")
    before = inspect(TARGET, False, False)
    repository.commits["1" * 40] = {"README.md": b"# edited meanwhile"}
    repository.branches["main"] = "1" * 40
    with pytest.raises(X2KitError, match=r"has changed since it was read.*publish again"):
        upload(folder, TARGET, before)
    assert repository.files() == {"README.md": b"# edited meanwhile"}


def test_a_failed_commit_publishes_nothing_and_says_that_the_repository_is_empty(
    hub: Hub, folder: Path
) -> None:
    hub.fails["/commit/"] = 400
    with pytest.raises(X2KitError, match=r"nothing was published\n  me/tiny was created and is empty"):
        upload(folder, TARGET, inspect(TARGET, False, False))
    assert hub.repositories["me/tiny"].files() == {}


def test_a_failed_upload_of_the_weights_publishes_nothing(hub: Hub, folder: Path) -> None:
    repository = existing(hub)
    hub.fails["/lfs/"] = 403
    with pytest.raises(X2KitError, match="nothing was published"):
        upload(folder, TARGET, inspect(TARGET, False, False))
    assert repository.files() == {}


def test_without_a_token_the_person_is_told_to_log_in(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(X2KitError, match=r"no token of the Hub; log in with `hf auth login`.*\n  --to DIR"):
        inspect(TARGET, False, False)
    assert hub.calls == []


def test_an_invalid_token_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(X2KitError, match="the token is not valid"):
        inspect(TARGET, False, False)


def test_a_namespace_of_others_is_refused_with_what_to_do(hub: Hub, folder: Path) -> None:
    target = Target(None, "others/tiny")
    with pytest.raises(X2KitError, match=r"may not write here.*use a token with write permission"):
        upload(folder, target, inspect(target, False, False))
    assert hub.repositories == {}


def test_a_missing_branch_is_refused_with_the_command_that_creates_it(hub: Hub) -> None:
    existing(hub)
    with pytest.raises(X2KitError, match=r"has no branch v9\n  create it: hf repos branch create me/tiny v9"):
        inspect(Target(None, "me/tiny", "v9"), False, False)


@pytest.mark.parametrize(
    ("target", "pull_request", "message"),
    [
        (Target(None, "me/new"), True, "does not exist.*publish it without --pr first"),
        (Target(None, "me/new", "v2"), False, "does not exist.*publish it without --revision v2 first"),
        (Target(None, "me/new", "v2"), True, "pull requests against main only"),
    ],
)
def test_a_new_repository_has_no_branches(hub: Hub, target: Target, pull_request: bool, message: str) -> None:
    with pytest.raises(X2KitError, match=message):
        inspect(target, False, pull_request)


def test_without_a_network_the_folder_can_be_written_instead(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(X2KitError, match=r"the Hub cannot be reached: .*\n  --to DIR"):
        inspect(TARGET, False, False)


def test_a_damaged_record_on_the_hub_is_named(hub: Hub) -> None:
    existing(hub, published__json=json.dumps({"files": []}).encode())
    with pytest.raises(X2KitError, match=r"hf-hub:me/tiny/published\.json: not written by x2kit publish"):
        inspect(TARGET, False, False)
