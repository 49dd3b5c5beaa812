"""`x2kit search` indexes, queries and says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done
from tests.model import tiny
from tests.search.conftest import write_image
from tests.training.torchrun import torchrun
from x2kit.cli.search import index as index_action
from x2kit.search import open_index

pytest.importorskip("lancedb")
read_schema = pytest.importorskip("pyarrow.parquet").read_schema
Search = Callable[..., Done]


def test_a_second_call_prints_what_changed(search: Search, built: Path, photos: Path) -> None:
    write_image(photos / "new.png", 20)
    (photos / "broken.png").write_bytes(b"broken")
    done = search("index", photos, "--index", built)
    assert done.status == 1
    assert "1 added, 0 updated, 0 renamed, 0 gone, 8 unchanged, 1 broken" in done.out
    assert f"broken: {photos / 'broken.png'}: not a readable image" in done.err
    report = json.loads(search("index", photos, "--index", built, "--json").out)
    assert (report["unchanged"], report["broken"][0]["name"]) == (9, str(photos / "broken.png"))


def test_hits_are_a_table_lines_of_json_or_paths(search: Search, built: Path, photos: Path) -> None:
    done = search("query", built, "a red dog", "-k", "2")
    assert done.status == 0
    assert [line.split()[0] for line in done.out.splitlines()] == ["1", "2"]
    hits = [
        json.loads(line) for line in search("query", built, "a red dog", "-k", "2", "--json").out.splitlines()
    ]
    paths = [hit["path"] for hit in hits]
    assert [line.split()[-1] for line in done.out.splitlines()] == paths
    assert search("query", built, "a red dog", "-k", "2", "--paths").out.splitlines() == paths
    assert search("query", built, "a red dog", "-k", "2", "--null").out.split("\0")[:-1] == paths


def test_parts_weights_and_conditions_come_from_the_options(
    search: Search, built: Path, photos: Path
) -> None:
    image = photos / "trip" / "3.png"
    assert search("query", built, "--image", image, "-k", "1", "--paths").out.strip() == str(image)
    done = search(
        "query", built, "a dog^0.1", "--region", f"{image}:0,0,32,32^2", "--minus", "the moon^0.1", "-k", "8",
        "--where", "path LIKE '%/trip/%'", "--rerank", "3", "--html", photos.parent / "page" / "hits.html",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == 4
    assert done.out.count(" match ") == 3
    page = (photos.parent / "page" / "hits.html").read_text()
    assert "0.1 × a dog − 0.1 × the moon + 2 × region 0,0,32,32 of image 3.png" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no query: give words, --image PATH"),
        (("--region", "a.png"), "expected PATH:x,y,width,height, found a.png"),
        (("a dog", "--where", "year = 3"), "invalid condition 'year = 3'"),
        (("a dog", "-k", "0"), "k should be 1 or more"),
        (("--image", "missing.png"), "no image at missing.png"),
    ],
)
def test_a_wrong_query_is_explained(
    search: Search, built: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = search("query", built, *arguments)
    assert done.status == 2
    assert message in done.err


def test_an_index_needs_a_model_once(search: Search, photos: Path, place: Path) -> None:
    done = search("index", photos, "--index", place)
    assert (done.status, "a new index needs a model: --model RUN" in done.err) == (2, True)
    assert not place.exists()
    done = search("index", photos, "--index", place, "--part", "3/2")
    assert (done.status, "--part: expected K/N" in done.err) == (2, True)


def test_another_model_is_refused(
    search: Search, built: Path, photos: Path, weights: Path, other_weights: Path
) -> None:
    done = search("index", photos, "--index", built, "--model", other_weights)
    assert done.status == 2
    assert str(weights) in done.err
    assert str(other_weights) in done.err


def test_status_remove_and_export(search: Search, built: Path, photos: Path, weights: Path) -> None:
    (photos / "0.png").unlink()
    search("index", photos, "--index", built)
    status = search("status", built)
    assert "8 rows, 1 of them gone" in status.out
    assert f"model: {weights} (6 x float16" in status.out
    assert json.loads(search("status", built, "--json").out)["present"] == 7
    assert search("export", built, "--to", photos / "rows.parquet").out.endswith("rows.parquet: 8 rows\n")
    assert search(
        "export", built, "--to", photos / "names.parquet", "--columns", "size", "--no-vectors"
    ).out.endswith("names.parquet: 8 rows\n")
    assert read_schema(photos / "names.parquet").names == ["id", "size"]
    assert search("remove", built, "--gone", "--dry-run").out == f"{built}: 1 rows would be deleted\n"
    assert search("remove", built, "--gone").out == f"{built}: 1 rows deleted\n"
    assert search("remove", built, "--where", "path LIKE '%/trip/%'").out == f"{built}: 4 rows deleted\n"
    assert "give one of --where SQL and --gone" in search("remove", built).err


def test_captions_are_measured_against_all_rows(search: Search, built: Path, photos: Path) -> None:
    captions = photos / "captions.jsonl"
    captions.write_text(json.dumps({"image": "0.png", "caption": {"en": "a red dog"}}) + "\n")
    done = search("evaluate", built, "--queries", captions)
    assert done.out.startswith("text to image, 8 candidates, exact search\n")
    result = json.loads(search("evaluate", built, "--queries", captions, "--json").out)
    assert result["languages"]["en"]["chance_r1"] == pytest.approx(1 / 8)


def test_a_large_table_is_built_in_the_background(
    search: Search, built: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    class Started:
        pid = 17

        def __init__(self, command: list[str], **settings: object) -> None:
            assert settings["start_new_session"]
            started.append(command[1:])

    monkeypatch.setattr(index_action, "BUILD_FROM", 8)
    monkeypatch.setattr(index_action.subprocess, "Popen", Started)
    write_image(photos / "new.png", 20)
    done = search("index", photos, "--index", built)
    assert started == [["-m", "x2kit", "search", "build", str(built)]]
    assert "building the approximate index in process 17" in done.out
    write_image(photos / "newer.png", 21)
    search("index", photos, "--index", built, "--no-build")
    assert len(started) == 1
    assert search("build", built).out.startswith(f"{built}: exact, 10 rows in ")


@pytest.mark.slow
def test_ranks_of_torchrun_divide_the_files(photos: Path, place: Path, weights: Path) -> None:
    done = torchrun(
        2,
        "search",
        "index",
        photos,
        "--index",
        place,
        "--model",
        weights,
        "--plugin",
        tiny.__file__,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == 8
    with open_index(place) as opened:
        assert len(opened) == 8
    done = torchrun(2, "search", "index", photos.parent / "nothing", "--index", place)
    assert done.returncode != 0
    assert done.stderr.count("no such file or folder") == 1
