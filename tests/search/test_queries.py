"""Queries are weighted sums of texts, images and regions; hits can be re-ranked, located, filtered and drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.search.conftest import Index, write_image
from x2kit.errors import DataError
from x2kit.inference import Model
from x2kit.search import Region, SearchIndex, Weighted, open_index
from x2kit.search.manifest import known_roots, read_manifest
from x2kit.search.queries import encode_query


@pytest.fixture
def opened(index: Index, place: Path, model: Model) -> Iterator[SearchIndex]:
    index()
    with open_index(place, model) as found:
        yield found


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_a_query_is_the_weighted_sum_of_its_parts(model: Model, photos: Path) -> None:
    texts = model.embed_texts(["a red dog", "the moon"]).vectors
    image = model.embed_images([photos / "0.png"]).vectors[0]
    region = model.embed_regions(photos / "0.png", [(0, 0, 16, 16)]).vectors[0]
    box = Region(photos / "0.png", (0, 0, 16, 16))
    query = encode_query(model, ["a red dog", Weighted("the moon", -0.5), photos / "0.png", Weighted(box, 2)])
    np.testing.assert_allclose(query.vector, unit(texts[0] - 0.5 * texts[1] + image + 2 * region), atol=1e-5)
    assert query.text == "a red dog − 0.5 × the moon + image 0.png + 2 × region 0,0,16,16 of image 0.png"
    assert query.sentences == [("a red dog", 1.0)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "needs a text"),
        (["a dog", Weighted("a dog", -1)], "cancel out"),
        ([Weighted("a dog", float("nan"))], "weight nan of a dog"),
        ([""], "nothing remains"),
        ([Path("/nothing.png")], "image nothing.png': no image at"),
    ],
)
def test_a_query_without_direction_or_unreadable_is_refused(
    model: Model, parts: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode_query(model, parts)


def test_hits_are_the_most_similar_files(opened: SearchIndex, photos: Path, model: Model) -> None:
    files = sorted(photos.rglob("*.png"))
    similarity = model.similarity(files, ["a red dog"])[:, 0]
    expected = [str(files[place]) for place in np.argsort(-similarity)[:3]]
    results = opened.query("a red dog", k=3)
    assert [hit.path for hit in results.hits] == expected
    assert results.hits[0].similarity == pytest.approx(similarity.max(), abs=1e-4)
    (best,) = opened.query(photos / "trip" / "3.png", k=1).hits
    assert (best.path, best.similarity) == (str(photos / "trip" / "3.png"), pytest.approx(1, abs=1e-4))
    assert opened.query(Image.open(photos / "0.png"), k=1).hits[0].path == str(photos / "0.png")


def test_threads_may_query_at_the_same_time(opened: SearchIndex, photos: Path) -> None:
    files = sorted(photos.rglob("*.png")) * 5
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda file: opened.query(file, k=1).hits[0].path, files))
    assert found == [str(file) for file in files]


def test_conditions_filter_by_columns(opened: SearchIndex, photos: Path) -> None:
    hits = opened.query("a dog", where="path LIKE '%/trip/%' AND size > 0").hits
    assert {hit.path for hit in hits} == {str(file) for file in (photos / "trip").iterdir()}
    assert opened.query("a dog", where="modified < '1999'").hits == []
    with pytest.raises(DataError, match="nonsense"):
        opened.query("a dog", where="nonsense = 1")


def test_missing_files_are_not_found(index: Index, opened: SearchIndex, photos: Path) -> None:
    (photos / "0.png").unlink()
    index()
    paths = [hit.path for hit in opened.query("a dog", k=8).hits]
    assert len(paths) == 7
    assert str(photos / "0.png") not in paths


def test_the_first_hits_are_reranked_by_the_matching_head(opened: SearchIndex, model: Model) -> None:
    plain = [hit.path for hit in opened.query("a red dog", k=8).hits]
    hits = opened.query("a red dog", k=8, rerank=5).hits
    assert {hit.path for hit in hits[:5]} == set(plain[:5])
    assert [hit.path for hit in hits[5:]] == plain[5:]
    expected = [match.probability for match in model.match([hit.path for hit in hits[:5]], "a red dog")]
    assert [hit.probability for hit in hits[:5]] == pytest.approx(expected, abs=1e-5)
    assert expected == sorted(expected, reverse=True)
    assert hits[5].probability is None


def test_locating_gives_each_hit_a_box(opened: SearchIndex) -> None:
    pytest.importorskip("x2kit.inference.locating")
    results = opened.query("a red dog", k=2, locate=True)
    assert all(hit.box is not None for hit in results.hits)
    assert results.to_html().count("<rect") == 4
    with pytest.raises(DataError, match="need a text"):
        opened.query(Path(results.hits[0].path), locate=True)


def test_a_file_that_vanished_is_noted_and_not_reranked(opened: SearchIndex, photos: Path) -> None:
    first = opened.query("a red dog", k=1).hits[0].path
    Path(first).unlink()
    results = opened.query("a red dog", k=8, rerank=3)
    assert results.hits[2].path == first
    assert results.notes == [f"not re-ranked: {first}: no image at {first}"]


def test_files_outside_the_indexed_folders_are_not_opened(
    opened: SearchIndex,
    place: Path,
    photos: Path,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert known_roots(read_manifest(str(place)).id) == [str(photos)]
    monkeypatch.setenv("X2KIT_STATE", str(tmp_path / "of another user"))
    with open_index(place, model) as other:
        results = other.query("a dog", k=2, rerank=2)
        assert len(results.notes) == 2
        assert "allow its folder: --roots FOLDER" in results.notes[0]
        assert "<img" not in results.to_html()
    with open_index(place, model, roots=[photos]) as other:
        assert other.query("a dog", k=2, rerank=2).notes == []


def test_the_page_holds_thumbnails_and_fetches_nothing(opened: SearchIndex, photos: Path) -> None:
    page = opened.query("a <dog>", k=3).to_html("facts")
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert "a &lt;dog&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_removed_rows_are_gone_and_the_files_stay(opened: SearchIndex, photos: Path) -> None:
    assert opened.remove("path LIKE '%/trip/%'") == 4
    assert len(opened) == 4
    assert len(list(photos.rglob("*.png"))) == 8
    with pytest.raises(DataError, match="needs a condition"):
        opened.remove(" ")


def test_an_export_holds_ids_columns_and_vectors(opened: SearchIndex, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert opened.export(tmp_path / "rows.parquet") == 8
    written = parquet.read_table(tmp_path / "rows.parquet")
    rows = {
        name: vector for part in opened.rows() for name, vector in zip(part.ids, part.vectors, strict=True)
    }
    for row in written.to_pylist():
        assert row["path"] == row["id"]
        np.testing.assert_array_equal(np.float32(row["vector"]), rows[row["id"]])
    assert written.schema.metadata[b"fingerprint"].decode() == opened.model.fingerprint


def test_the_status_names_model_and_counts(
    opened: SearchIndex, index: Index, photos: Path, weights: Path
) -> None:
    (photos / "0.png").unlink()
    index()
    status = opened.status()
    assert (status["rows"], status["present"], status["gone"]) == (8, 7, 1)
    assert (status["model"], status["dim"], status["dtype"]) == (str(weights), 6, "float32")
    opened.build()
    assert opened.status()["last_build"]["rows"] == 8


def test_no_index_is_an_error_that_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="build one: x2kit search index"):
        open_index(tmp_path)


def test_frames_of_a_video_are_hits_of_one_file(
    index: Index, tmp_path: Path, place: Path, model: Model
) -> None:
    from tests.data.clips_on_disk import write_video

    (tmp_path / "clips").mkdir()
    clip = write_video(tmp_path / "clips" / "a.mp4")
    write_image(tmp_path / "clips" / "b.png", 1)
    report = index(tmp_path / "clips", frames=3)
    assert (report.added, report.broken) == (2, [])
    with open_index(place, model) as opened:
        rows = [name for part in opened.rows() for name in part.ids]
        assert len([name for name in rows if name.startswith(f"{clip}#frame=")]) == 3
        assert str(clip) in rows
        hits = opened.query("a dog", k=5).hits
        assert {hit.path for hit in hits} == {str(clip), str(tmp_path / "clips" / "b.png")}
        assert all(opened.open(hit).size for hit in hits)
