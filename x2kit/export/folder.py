"""Export a model to a folder: programs, preprocessing, tokenizer and manifest. Imports torch."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from x2kit.errors import StorageError, X2KitError
from x2kit.evaluation.config import Recipe
from x2kit.evaluation.harness import config_name
from x2kit.export import onnx_export, preprocessing, quantizing, tokenizer, torch_export
from x2kit.export.checking import TOLERANCE, largest_differences, require_close
from x2kit.export.programs import Axes, Program, programs_of
from x2kit.export.samples import example, inputs_of
from x2kit.inference.model import Model
from x2kit.io.atomic import atomic_folder
from x2kit.io.identity import sha256_of
from x2kit.io.run_directory import PREPROCESSING
from x2kit.model.x2vlm import X2VLM

MANIFEST = "manifest.json"
FORMAT = 1
Target = Literal["torch", "onnx"]
Progress = Callable[[str, int, int], None]
PACKAGES = ("x2kit", "torch", "onnx", "onnxscript", "onnxruntime", "tokenizers", "numpy")
BOX = "centre x, centre y, width and height, as shares of the image's width and height"


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def export_model(
    model: Model,
    to: Target,
    output: Path,
    *,
    int8: bool = False,
    recipe: Recipe | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write a model as programs that run without x2kit, and compare each with the model.

    Args:
        model: on the CPU, in float32.
        to: torch for `.pt2` files, onnx for ONNX.
        output: folder to create; it appears when everything was written and compared.
        int8: also write the programs with int8 weights (onnx), and measure what they cost.
        recipe: with the evaluation on which int8 is measured.
        progress: called with stage, finished and total items.
    Returns: the manifest.
    Raises: StorageError if `output` exists; HeadError for a model without the heads; WeightsError for a model without a
        tokenizer; X2KitError for an encoder that cannot be exported, a difference above `checking.TOLERANCE`, or
        missing packages.
    """
    module = _exportable(model, to, int8)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise StorageError(f"{output}: exists; give another --output, or remove it")
    if int8:
        quantizing.require_vectors(module, recipe)
    programs, left_out = programs_of(module)
    for program in programs:
        torch_export.require_exportable(program)
    with atomic_folder(output) as folder:
        without = tokenizer.write_tokenizer(module.tokenizer, module.max_length, folder)
        manifest = {
            "format": FORMAT,
            "to": to,
            "model": _model_facts(model),
            "programs": {
                program.name: _export(program, module, to, folder, number, len(programs), progress)
                for number, program in enumerate(programs)
            },
            "left_out": left_out,
            "tolerance": TOLERANCE,
            "text": _text_facts(module, without),
            "temperature": model.temperature if model.has("itc") else None,
            **({"box": BOX} if hasattr(module, "bbox_head") else {}),
        }
        _write_json(folder / PREPROCESSING, preprocessing.describe(module.image_spec))
        if int8:
            assert recipe is not None
            manifest["int8"] = _quantized(programs, module, folder, recipe, progress)
        manifest["versions"] = {**_versions(), "python": platform.python_version()}
        _write_json(folder / MANIFEST, manifest)
    return manifest


def _exportable(model: Model, to: Target, int8: bool) -> X2VLM:
    """Return the module. Raises X2KitError for wrong options or missing packages."""
    if to == "onnx":
        onnx_export.require_onnx()
    elif int8:
        raise X2KitError("--int8 writes ONNX: use it with --to onnx")
    if model.device.type != "cpu" or model.precision != "fp32":
        raise X2KitError(
            f"expected a model on the CPU in fp32, found {model.device} in {model.precision}; load it with "
            'device="cpu"'
        )
    return model.module


def _export(
    program: Program,
    model: X2VLM,
    to: Target,
    folder: Path,
    number: int,
    total: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write one program, compare it, and describe it."""
    progress("exporting", number, total)
    exported = torch_export.trace(program, inputs_of(program, model, example(model)), model.max_length)
    if to == "torch":
        file = folder / f"{program.name}{torch_export.SUFFIX}"
        torch_export.save(exported, file)
        differences = largest_differences(program, model, torch_export.TorchProgram(file))
    else:
        file = folder / f"{program.name}{onnx_export.SUFFIX}"
        onnx_export.convert(program, exported, file)
        differences = largest_differences(program, model, onnx_export.OnnxProgram(file))
    require_close(program, differences)
    progress("exporting", number + 1, total)
    return {
        **_files(file),
        "inputs": _described(program.inputs),
        "outputs": _described(program.outputs),
        "largest_difference": differences,
    }


def _quantized(
    programs: list[Program], model: X2VLM, folder: Path, recipe: Recipe, progress: Progress
) -> dict[str, Any]:
    """Write the programs in int8, and measure both kinds on the recipe's evaluation."""
    files, differences = {}, {}
    for program in programs:
        source, target = folder / f"{program.name}.onnx", folder / f"{program.name}{quantizing.INT8}"
        quantizing.quantize(source, target, large=_data_file(source).exists())
        files[program.name] = _files(target)
        differences[program.name] = largest_differences(program, model, onnx_export.OnnxProgram(target))
    recall = {
        name: quantizing.measure_recall(
            model, folder, suffix, recipe, lambda stage, *counts, of=name: progress(f"{of}, {stage}", *counts)
        )
        for name, suffix in (("float32", onnx_export.SUFFIX), ("int8", quantizing.INT8))
    }
    assert recipe.evaluation is not None
    return {
        "programs": {name: {**files[name], "largest_difference": differences[name]} for name in files},
        "measured_on": {
            "source": config_name(recipe.evaluation.source),
            "split": recipe.evaluation.split,
            "languages": list(recall["int8"]),
        },
        "recall": recall,
        "recall_lost": quantizing.costs(recall["float32"], recall["int8"]),
    }


def _described(named: Mapping[str, Axes]) -> list[dict[str, Any]]:
    return [{"name": name, "dtype": axes.dtype, "shape": list(axes.shape)} for name, axes in named.items()]


def _files(file: Path) -> dict[str, Any]:
    """Name a program's files, all in one folder, with size and SHA-256 of each."""
    found = [each for each in (file, _data_file(file)) if each.exists()]
    return {
        "file": file.name,
        "files": {each.name: {"bytes": each.stat().st_size, "sha256": sha256_of(each)} for each in found},
    }


def _data_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.data")


def _model_facts(model: Model) -> dict[str, Any]:
    module = model.module
    parts = {"vision": module.vision, "text": module.text, "fusion": module.fusion}
    return {
        "name": model.name,
        "weights_sha256": model.fingerprint,
        **{name: config_name(part.built_from) for name, part in parts.items() if part.built_from},
        "parameters": sum(each.numel() for each in module.parameters()),
        "languages": list(model.languages),
    }


def _text_facts(model: X2VLM, without: str | None) -> dict[str, Any]:
    return {
        "tokenizer": tokenizer.FILE if without is None else None,
        **({} if without is None else {"without_tokenizer_json": without}),
        "max_length": model.max_length,
        "vocabulary": model.tokenizer.vocab_size,
        "special_ids": model.tokenizer.special._asdict(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
