"""What an export holds, that it equals the model, and that a refused one leaves nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.conftest import picture
from tests.model.conftest import build
from x2kit.errors import StorageError, WeightsError, X2KitError
from x2kit.export import checking, onnx_export, torch_export
from x2kit.export.folder import export_model
from x2kit.export.onnx_export import OnnxProgram
from x2kit.export.programs import programs_of
from x2kit.export.samples import example, inputs_of
from x2kit.inference import Model
from x2kit.plugin import IdsOnly


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_it_holds_programs_preprocessing_tokenizer_and_manifest(exported: Path) -> None:
    programs = {f"{name}{kind}.onnx" for name in ("image", "text", "pair") for kind in ("", ".int8")}
    others = {"manifest.json", "preprocessing.json", "tokenizer.json"}
    assert {file.name for file in exported.iterdir()} == programs | others


def test_the_manifest_says_what_the_programs_take_and_return(exported: Path, model: Model) -> None:
    manifest = manifest_of(exported)
    image, text, pair = (manifest["programs"][name] for name in ("image", "text", "pair"))
    assert image["inputs"] == [{"name": "images", "dtype": "float32", "shape": ["batch", 3, 32, 32]}]
    assert [one["name"] for one in image["outputs"]] == ["image_vector", "image_tokens"]
    assert [one["shape"] for one in text["inputs"]] == [["batch", "length"]] * 2
    assert [one["name"] for one in pair["outputs"]] == ["probability", "box"]
    assert manifest["model"]["weights_sha256"] == model.fingerprint
    assert manifest["temperature"] == pytest.approx(0.07)
    assert manifest["text"]["max_length"] == model.module.max_length
    assert manifest["text"]["special_ids"] == model.module.tokenizer.special._asdict()
    assert manifest["left_out"] == {}
    for program in manifest["programs"].values():
        assert 0 <= max(program["largest_difference"].values()) < 1e-5
        for name, file in program["files"].items():
            assert file["sha256"] == hashlib.sha256((exported / name).read_bytes()).hexdigest()


def test_the_files_name_their_inputs_outputs_and_free_axes(exported: Path) -> None:
    import onnxruntime

    for name, program in manifest_of(exported)["programs"].items():
        session = onnxruntime.InferenceSession(exported / program["file"])
        for found, declared in (
            (session.get_inputs(), program["inputs"]),
            (session.get_outputs(), program["outputs"]),
        ):
            assert [(one.name, one.shape) for one in found] == [
                (one["name"], one["shape"]) for one in declared
            ], name


def test_the_programs_together_answer_as_the_model_does(exported: Path, model: Model) -> None:
    pictures = [picture(seed, (32, 32)) for seed in range(3)]
    texts = ["a dog under a tree", "boat", "the sun and the star"]
    image, text, pair = (OnnxProgram(exported / f"{name}.onnx") for name in ("image", "text", "pair"))
    ids, mask = model.module.tokenize(texts)
    vectors, tokens = image(model.module.read(pictures))
    words, states = text(ids, mask)
    probability, box = pair(tokens, states, mask)
    similarity = model.similarity(pictures, texts)
    np.testing.assert_allclose((vectors @ words.T).numpy(), similarity, atol=1e-5)
    matches = [match.probability for match in model.match(pictures, texts)]
    np.testing.assert_allclose(probability.numpy(), matches, atol=1e-5)
    (located,) = model.locate_all(pictures[0], texts[0])
    x, y, width, height = located.boxes[0].relative
    left, top = box[0, :2] - box[0, 2:] / 2
    right, bottom = box[0, :2] + box[0, 2:] / 2
    corners = torch.stack([left, top, right, bottom]).clamp(0, 1)  # the model cuts boxes to the image
    expected = torch.tensor([x, y, x + width, y + height])
    np.testing.assert_allclose(corners.numpy(), expected.numpy(), atol=1e-5)


def test_an_exported_folder_can_be_moved(exported: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(exported, tmp_path / "elsewhere")
    assert OnnxProgram(moved / "text.onnx")(torch.tensor([[0, 5, 2]]), torch.ones(1, 3, dtype=torch.bool))


def test_torch_files_need_no_x2kit(model: Model, tmp_path: Path) -> None:
    manifest = export_model(model, "torch", tmp_path / "out")
    assert manifest_of(tmp_path / "out") == json.loads(json.dumps(manifest))
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".pt2", ".json"}
    own = {
        "image": {"vision", "vision_proj"},
        "text": {"text", "text_proj"},
        "pair": {"fusion", "itm_head", "bbox_head"},
    }
    for name, parts in own.items():
        stored = torch.export.load(tmp_path / "out" / f"{name}.pt2").state_dict
        assert {tensor.split(".")[1] for tensor in stored if tensor.startswith("model.")} == parts
    saved = torch.export.load(tmp_path / "out" / "text.pt2").module()
    vectors, _ = saved(torch.tensor([[0, 5, 2]]), torch.ones(1, 3, dtype=torch.bool))
    assert vectors.norm().item() == pytest.approx(1, abs=1e-5)


def test_a_difference_above_the_tolerance_leaves_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "TOLERANCE", -1.0)
    with pytest.raises(X2KitError, match=r"image: the exported file differs .* nothing was written"):
        export_model(model, "torch", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_is_found(model: Model, exported: Path) -> None:
    """The comparison itself: the text tower of another model is no export of this one."""
    programs, _ = programs_of(model.module)
    image = next(program for program in programs if program.name == "image")
    right = OnnxProgram(exported / "image.onnx")

    def shifted(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        vectors, tokens = right(*inputs)
        return vectors + 2e-4 * (len(vectors) == 3), tokens

    differences = checking.largest_differences(image, model.module, shifted)
    assert differences["image_vector"] == pytest.approx(2e-4, rel=0.1)
    with pytest.raises(X2KitError, match=r"image_vector 2\.0e-04"):
        checking.require_close(image, differences)


def test_an_existing_folder_is_kept(model: Model, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"out: exists; give another --output"):
        export_model(model, "torch", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_weights_without_a_tokenizer_are_refused(model: Model, tmp_path: Path) -> None:
    module = build()
    module.text.tokenizer = IdsOnly(module.tokenizer.vocab_size, module.tokenizer.special)
    assert model.tasks is not None
    file = Path(model.tasks.where).with_name("model.safetensors")
    with pytest.raises(WeightsError, match=r"no tokenizer.*x2kit convert --tokenizer"):
        export_model(Model(module, "ids only", file), "torch", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_names_the_extra(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(X2KitError, match=r"pip install 'x2kit\[export\]'"):
        export_model(model, "onnx", tmp_path / "out")


def test_large_weights_go_to_a_file_beside_the_program(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "LARGEST_FILE", 0)
    (image, *_), _ = programs_of(model.module)
    traced = torch_export.trace(image, inputs_of(image, model.module, example(model.module)), 20)
    (tmp_path / "out").mkdir()
    onnx_export.convert(image, traced, tmp_path / "out" / "image.onnx")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"image.onnx", "image.onnx.data"}
    (tmp_path / "out").rename(tmp_path / "moved")
    vectors, *_ = OnnxProgram(tmp_path / "moved" / "image.onnx")(torch.zeros(1, 3, 32, 32))
    assert vectors.shape == (1, 8)


def test_preprocessing_and_tokenizer_are_those_of_the_model(exported: Path, model: Model) -> None:
    from tokenizers import Tokenizer

    written = json.loads((exported / "preprocessing.json").read_text())
    spec = model.module.image_spec
    assert (written["size"], written["mean"], written["std"]) == (spec.size, [*spec.mean], [*spec.std])
    reader = Tokenizer.from_file(str(exported / "tokenizer.json"))
    texts = ["A Dog, under the TREE!", "boat"]
    ids, mask = model.module.tokenize(texts)
    found = reader.encode_batch(texts)
    assert [one.ids for one in found] == ids.tolist()
    assert [one.attention_mask for one in found] == mask.long().tolist()


def test_a_picture_read_by_pillow_is_that_of_the_model(exported: Path, model: Model) -> None:
    spec = json.loads((exported / "preprocessing.json").read_text())
    for size in ((32, 32), (90, 50), (20, 30)):
        image = picture(3, size)
        read = image.convert(spec["mode"])
        if read.size != (spec["size"],) * 2:
            read = read.resize((spec["size"],) * 2, Image.Resampling[spec["interpolation"].upper()])
        pixels = np.asarray(read, np.float32).transpose(2, 0, 1) / 255
        difference = np.abs(pixels - model.module.read(image)[0].numpy()).max()
        assert difference <= (1.01 / 255 if size != (32, 32) else 0)
