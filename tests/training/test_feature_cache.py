"""Runs with cached features equal runs without, whatever became of the cache before."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from tests.training.conftest import recipe_tree
from tests.training.parallel.test_distribute import losses
from tests.training.test_trainer import Crash, after, crash, numbers, run
from tests.training.torchrun import torchrun
from x2kit import cli
from x2kit.cli.recipes.summary import as_text
from x2kit.data.features import shards
from x2kit.data.features.records import render_views
from x2kit.data.features.rules import cached_images
from x2kit.data.pipeline.batch import Batch, PairedRows
from x2kit.data.transforms.boxes import place_boxes, read_boxes
from x2kit.data.transforms.view import stack_pixels
from x2kit.errors import DataError, RecipeError, StorageError
from x2kit.model import X2VLM
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.training import feature_cache
from x2kit.training.checkpoint.checkpoints import checkpoints
from x2kit.training.feature_cache import with_cached_features
from x2kit.training.profiling.bench import bench
from x2kit.training.stepper import Stepper, assemble

CACHED = Path("cached")
"""A place of the folder of features, relative to a test's folder."""
CLOSE = 1e-5


def tree_of(folder: Path, cached: bool = True, source: dict[str, Any] | None = None, **training: Any) -> Any:
    """Return the tiny recipe with a frozen vision encoder, whose features are cached or not."""
    tree = recipe_tree(folder)
    streams = tree["data"]["streams"]
    if source is not None:
        for stream in streams.values():
            stream["source"] = {"class_path": "Scenes", "init_args": source}
    own = {key: value for key, value in streams["images"].items() if key != "task"}
    streams["own"] = own | {"task": {"class_path": "RegionText", "init_args": {"max_images": 3}}}
    if cached:
        tree["data"]["feature_cache"] = str(folder / CACHED)
    tree["training"] |= {"trainable": {"vision": "none"}, **training}
    return tree


def written(folder: Path, tree: Any, name: str = "cached.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(tree))
    return file


def recipe(folder: Path, **settings: Any) -> ResolvedRecipe:
    return read_recipe([written(folder, tree_of(folder, **settings))])


def stepper(resolved: ResolvedRecipe, messages: list[str] | None = None) -> Stepper:
    """Build a stepper with cached features."""
    said = [] if messages is None else messages
    parts, _ = assemble(resolved.recipe, lambda message: None)
    return Stepper(resolved.recipe, with_cached_features(resolved.recipe, parts, said.append), 0)


def values(resolved: ResolvedRecipe, steps: int, messages: list[str] | None = None) -> list[dict[str, float]]:
    """Make steps; return their values."""
    made, found = stepper(resolved, messages), []
    for batch in (each.on_device for each in made.feed()):
        if made.done == steps:
            break
        found.append({name: float(value) for name, value in made.step(batch).items()})
        made.done += 1
    return found


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / CACHED).iterdir() if path.is_dir())


def files(folder: Path) -> list[Path]:
    (entry,) = entries(folder)
    return sorted(entry.glob("*.safetensors"))


@pytest.fixture
def two_records_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 2)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each call of the vision encoder."""
    calls: list[int] = []
    encode = X2VLM.encode_images

    def counted(model: X2VLM, images: torch.Tensor) -> Any:
        calls.append(len(images))
        return encode(model, images)

    monkeypatch.setattr(X2VLM, "encode_images", counted)
    return calls


def close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=CLOSE, rel=CLOSE)


def test_fifty_steps_have_the_losses_of_a_run_without_a_cache(tmp_path: Path, encoded: list[int]) -> None:
    """Images, regions of them, and regions of images of their own, with dropout in the fusion encoder."""
    expected = values(recipe(tmp_path, cached=False, steps=50, lr=0.001), 50)
    encoded.clear()
    messages: list[str] = []
    found = values(recipe(tmp_path, steps=50, lr=0.001), 50, messages)
    assert encoded == [1, 12]  # an empty image for its sizes, and each image of the source once
    close(found, expected)
    assert found[0]["images.itc"] != found[-1]["images.itc"]
    (entry,) = entries(tmp_path)
    size = 12 * (4 * 8 * 17 + 96)
    assert messages[0] == (
        f"data.feature_cache: 12 images, {size / 1024:.1f} KiB in {entry}; {size / 1024:.1f} KiB to compute"
    )


@pytest.mark.parametrize(
    "keys", [{"accumulation": 2}, {"precision": "bf16"}, {"accumulation": 2, "ema": 0.9}]
)
def test_other_ways_of_a_step_have_equal_losses(tmp_path: Path, keys: dict[str, Any]) -> None:
    found = values(recipe(tmp_path, **keys), 4)
    close(found, values(recipe(tmp_path, cached=False, **keys), 4))


def test_a_second_run_computes_nothing(tmp_path: Path, encoded: list[int]) -> None:
    first = values(recipe(tmp_path), 2)
    encoded.clear()
    messages: list[str] = []
    assert values(recipe(tmp_path, seed=42), 2, messages) == first
    assert encoded == [1]
    assert len(messages) == 1
    assert messages[0].endswith("; complete")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"seed": 7}, "weights"),
        ({"precision": "bf16"}, "precision, outputs"),
        ({"source": {"count": 13}}, "records"),
        ({"width": 12}, "settings, weights"),
        ({"reduced_decoding": True}, "views"),
        ({"code": True}, "code"),
        ({"version": "9.9"}, "x2kit"),
    ],
)
def test_a_change_leads_to_another_entry_and_is_named(
    tmp_path: Path, change: dict[str, Any], fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values(recipe(tmp_path), 1)
    (before,) = entries(tmp_path)
    tree = tree_of(
        tmp_path, **{key: value for key, value in change.items() if key in ("seed", "precision", "source")}
    )
    if "width" in change:
        tree["model"]["vision"] = {"class_path": "TinyVision", "init_args": {"width": 12}}
        tree["model"]["text"] = {"class_path": "TinyText", "init_args": {"width": 12}}
    if "reduced_decoding" in change:
        for stream in tree["data"]["streams"].values():
            stream["transform"]["reduced_decoding"] = True
    if "code" in change:
        monkeypatch.setattr(feature_cache, "_hash_of_code", lambda model: "another")
    if "version" in change:
        monkeypatch.setattr(feature_cache, "own_version", lambda: "9.9")
    messages: list[str] = []
    values(read_recipe([written(tmp_path, tree)]), 1, messages)
    assert len(entries(tmp_path)) == 2
    assert f"data.feature_cache: {before} is not used, as it differs in {fact}" in messages


def test_code_of_the_encoder_is_the_files_of_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stepper(recipe(tmp_path)).model
    before = feature_cache._hash_of_code(model)
    name = type(model.vision).__module__
    other = tmp_path / "other.py"
    other.write_bytes(Path(str(sys.modules[name].__file__)).read_bytes() + b"\n")
    monkeypatch.setattr(sys.modules[name], "__file__", str(other))
    assert feature_cache._hash_of_code(model) != before


def cut_off(folder: Path) -> None:
    """Leave a cache as a killed process and a bad copy do: without a shard, with a half of one and with leftovers."""
    first, second, third, *_ = files(folder)
    second.unlink()
    second.with_name(f".{second.name}.1.partial.safetensors").write_bytes(first.read_bytes()[:100])
    third.write_bytes(third.read_bytes()[: third.stat().st_size // 2])
    (first.parent / "manifest.json").unlink()


@pytest.mark.usefixtures("two_records_a_shard")
def test_a_killed_run_resumes_exactly_with_a_cache_that_was_cut_off(
    tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(recipe(tmp_path), tmp_path / "plain")
    with monkeypatch.context() as patch:
        after(patch, 3, crash)
        with pytest.raises(Crash):
            run(recipe(tmp_path), tmp_path / "run")
    cut_off(tmp_path)
    encoded.clear()
    assert run(recipe(tmp_path), tmp_path / "run", resume=True) == plain
    assert encoded == [1, 2, 2]
    assert numbers(tmp_path / "run") == numbers(tmp_path / "plain")
    assert [file.name for file in sorted(entries(tmp_path)[0].iterdir())] == [
        *(f"{number:05d}.safetensors" for number in range(6)),
        "manifest.json",
    ]


@pytest.mark.usefixtures("two_records_a_shard")
def test_an_interruption_keeps_finished_shards(
    tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = feature_cache._compute

    def interrupted(job: Any, shard: int, *more: Any) -> Any:
        if shard == 3:
            raise KeyboardInterrupt
        return compute(job, shard, *more)

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "_compute", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"finished shards are kept in .*, and the same command"):
            run(recipe(tmp_path), tmp_path / "run")
    assert [file.name for file in files(tmp_path)] == [f"{number:05d}.safetensors" for number in range(3)]
    encoded.clear()
    run(recipe(tmp_path), tmp_path / "run")
    assert encoded == [1, 2, 2, 2]


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_fills_the_cache(tmp_path: Path) -> None:
    """Its shards are kept, and a run that completes them has the weights of a run that was never stopped."""
    file = written(tmp_path, tree_of(tmp_path, source={"count": 4000}, steps=4))
    command = [sys.executable, "-m", "x2kit", "train", str(file), "--run-dir"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "run")], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / CACHED).glob("*/00000.safetensors")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert len(files(tmp_path)) < 4
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    kept = files(tmp_path)[0].stat().st_mtime_ns
    again = run(read_recipe([file]), tmp_path / "run")
    assert len(files(tmp_path)) == 4
    assert files(tmp_path)[0].stat().st_mtime_ns == kept
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    assert cli.main(["train", "--resume", "--run-dir", str(tmp_path / "run")]) == 0
    assert len(entries(tmp_path)) == 1  # though the run has copies of its plugins
    shutil.rmtree(tmp_path / CACHED)
    assert run(read_recipe([file]), tmp_path / "whole") == again


def test_broken_records_are_replaced_as_without_a_cache(tmp_path: Path) -> None:
    """Lines that are not read, images that are not decoded, boxes outside of the image."""
    source = {"count": 30, "broken": [3, 11], "undecodable": [5], "outside": [7]}
    for cached in (False, True):
        tree = tree_of(tmp_path, cached=cached, source=source)
        tree["data"] |= {"num_workers": 2, "max_bad_share": 0.5}
        run(read_recipe([written(tmp_path, tree)]), tmp_path / str(cached))
    plain, found = (numbers(tmp_path / str(cached)) for cached in (False, True))
    assert plain[-1]["bad_records"] > 0
    close(found, plain)
    logs = [(tmp_path / str(cached) / "bad-records.jsonl").read_text() for cached in (False, True)]
    assert logs[0] == logs[1]


def test_an_image_that_was_unreadable_when_it_was_cached_stays_a_broken_record(tmp_path: Path) -> None:
    """Until the folder is deleted; the fingerprint of these scenes is that of sound ones."""
    values(recipe(tmp_path, source={"count": 12, "undecodable": [5]}), 1)
    tree = tree_of(tmp_path, source={"count": 12})
    tree["data"]["max_bad_share"] = 0.5
    run(read_recipe([written(tmp_path, tree)]), tmp_path / "run")
    log = (tmp_path / "run" / "bad-records.jsonl").read_text()
    assert '"scene-5"' in log
    assert '"file changed"' in log
    assert "and the next run computes its features again" in log


def views_tree(folder: Path, views: int) -> Any:
    tree = tree_of(folder, source={"count": 8}, steps=20)
    del tree["data"]["streams"]["own"]
    tree["data"]["feature_views"] = views
    tree["data"]["streams"]["images"]["transform"] = {
        "crop_scale": [0.3, 0.9],
        "flip": 0.5,
        "augment_operations": 2,
    }
    return tree


def batches(made: Stepper) -> Iterator[Batch]:
    return (each.on_device for each in made.feed())


def test_views_are_drawn_once_and_boxes_follow_them(tmp_path: Path) -> None:
    """Eight records, four a step: an epoch of two steps takes the next of three views of each."""
    made = stepper(read_recipe([written(tmp_path, views_tree(tmp_path, 3))]))
    data, spec = made.recipe.data, made.model.image_spec
    config, cached = data.streams["images"], cached_images(data)["images"]
    source = config.source.open()
    rendered = {
        index: render_views(source[index], index, config, cached, spec) for index in range(len(source))
    }
    assert len({view.view for views in rendered.values() for view in views}) == 24
    seen = []
    for batch in batches(made):
        assert batch.images is None
        assert batch.features is not None
        ids = [int(name.removeprefix("scene-")) for name in batch.records["images"]]
        views = [rendered[index][(batch.step // 2 + index) % 3] for index in ids]
        expected = made.model.encode_images(
            stack_pixels([view.pixels for view in views if view.pixels is not None])
        )
        torch.testing.assert_close(batch.features.patches, expected.patches, rtol=0, atol=1e-6)
        torch.testing.assert_close(batch.features.summary, expected.summary, rtol=0, atol=1e-6)
        rows = batch.streams.get("regions")
        if isinstance(rows, PairedRows):
            assert rows.regions is not None
            for image, box in zip(rows.images.tolist(), rows.regions.bbox.tolist(), strict=True):
                view = views[image].view
                assert view is not None
                given = read_boxes([region["bbox"] for region in source[ids[image]]["regions"]], view.size)
                assert any(box == pytest.approx(other) for other in place_boxes(given, view).bbox.tolist())
                seen.append(box)
    assert len(seen) > 40


def test_a_random_view_without_a_number_of_views_is_refused(tmp_path: Path) -> None:
    tree = views_tree(tmp_path, 3)
    del tree["data"]["feature_views"]
    with pytest.raises(RecipeError, match=r"images\.transform\.crop_scale: draws another view .*\n.*flip"):
        read_recipe([written(tmp_path, tree)])


@pytest.mark.parametrize("vision", ["all", "norms", {"from_step": 3}, {"last_layers": 1}])
def test_a_vision_encoder_that_is_trained_is_refused(tmp_path: Path, vision: Any) -> None:
    with pytest.raises(
        RecipeError, match=r"data\.feature_cache: caches the outputs of a vision encoder that never"
    ):
        recipe(tmp_path, trainable={"vision": vision})


def test_a_mixture_of_sources_is_refused(tmp_path: Path) -> None:
    tree = tree_of(tmp_path)
    of_two = {"sources": {"a": "Scenes", "b": "Scenes"}, "weights": {"a": 1, "b": 1}}
    for stream in tree["data"]["streams"].values():
        stream["source"] = {"class_path": "Mixture", "init_args": of_two}
    with pytest.raises(RecipeError, match=r"images\.source: Mixture has new records in every epoch"):
        stepper(read_recipe([written(tmp_path, tree)]))


def test_a_disk_without_room_is_refused_before_a_shard_is_written(
    tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"KiB needed, 1000 bytes free; choose a folder on another disk"):
        stepper(recipe(tmp_path))
    assert encoded == [1]
    assert files(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / CACHED).write_text("")
    with pytest.raises(StorageError, match=r"data\.feature_cache: .*cached: is a file, not a folder"):
        stepper(recipe(tmp_path))


def test_a_run_of_less_than_two_epochs_is_told_that_a_cache_does_not_save_time(tmp_path: Path) -> None:
    messages: list[str] = []
    stepper(recipe(tmp_path, source={"count": 30}), messages)
    assert (
        "data.feature_cache: this run reads each view of an image 1.4 times; a cache saves time from "
        in messages[1]
    )


def test_a_source_without_any_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image of the 3 records could be read"):
        stepper(recipe(tmp_path, source={"count": 3, "undecodable": [0, 1, 2]}))


def test_a_run_that_computes_holds_a_lock_and_one_that_does_not_writes_nothing(tmp_path: Path) -> None:
    """Two runs do not compute the same shards, and a complete folder may be read-only."""
    stepper(recipe(tmp_path))
    (lock,) = (tmp_path / CACHED).glob("*.lock")
    assert lock.name == f".{entries(tmp_path)[0].name}.lock"
    lock.unlink()
    before = sorted((tmp_path / CACHED).rglob("*"))
    stepper(recipe(tmp_path))
    assert sorted((tmp_path / CACHED).rglob("*")) == before


def test_validate_tells_of_the_cache(tmp_path: Path) -> None:
    resolved = recipe(tmp_path)
    shown = "544 bytes a view of an image in float32, 6.4 KiB for 12 views, each read 3.5 times"
    assert f"  features cached in {tmp_path / CACHED}: {shown}" in as_text("cached", resolved).splitlines()


@pytest.mark.slow
def test_bench_fills_the_cache_and_notes_its_size(tmp_path: Path) -> None:
    result = bench(recipe(tmp_path).recipe, 1)
    assert any(note.startswith("data.feature_cache: 12 images, ") for note in result.notes)
    assert not any("saves time" in note for note in result.notes)
    assert result.share("vision") < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [{}, {"accumulation": 2}, {"distribution": "fsdp"}], ids=["ddp", "parts", "fsdp"]
)
def test_two_ranks_share_the_work_and_have_the_losses_of_one(tmp_path: Path, keys: dict[str, Any]) -> None:
    settings = {"source": {"count": 2100}, "steps": 4, "lr": 0.001, "warmup": 0, **keys}
    trees = {name: tree_of(tmp_path, cached=name == "two", **settings) for name in ("one", "two")}
    for tree in trees.values():
        tree["model"]["fusion"]["init_args"] |= {"dropout": 0.0}
    run(read_recipe([written(tmp_path, trees["one"], "one.yaml")]), tmp_path / "one")
    done = torchrun(2, "train", written(tmp_path, trees["two"], "two.yaml"), "--run-dir", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    close(losses(tmp_path / "two"), losses(tmp_path / "one"))
    assert len(files(tmp_path)) == 3
    assert done.stdout.count("to compute") == 1


@pytest.mark.usefixtures("two_records_a_shard")
def test_ranks_without_a_common_folder_are_told(tmp_path: Path) -> None:
    layout = next(iter(stepper(recipe(tmp_path)).batches.features.values()))
    with pytest.raises(
        StorageError, match=r"rank 1 does not find .*00002\.safetensors, which another rank wrote"
    ):
        feature_cache._require_shared(layout, [[], [2]])


def test_validation_and_weights_of_a_cached_run_read_images(tmp_path: Path) -> None:
    """The cache serves training alone."""
    tree = tree_of(tmp_path)
    tree["evaluation"] |= {"every": 3, "select_source": {"class_path": "Scenes", "init_args": {"count": 5}}}
    resolved = read_recipe([written(tmp_path, tree)])
    from x2kit.evaluation import Validator
    from x2kit.training import train

    weights = train(resolved.recipe, resolved.plugins, tmp_path / "run", validator=Validator(resolved.recipe))
    assert (weights / "model.safetensors").exists()
    assert "evaluation" in resolved.recipe.to_yaml()
    assert any("retrieval" in name for line in numbers(tmp_path / "run") for name in line)
    assert entries(tmp_path)
