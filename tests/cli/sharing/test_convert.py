"""`x2kit convert` from the command line: sound checkpoints, bad ones, and what is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import BertTokenizerFast

from tests.cli.conftest import Done
from tests.interop import made
from x2kit.interop import convert as interop
from x2kit.model import load

Subcommand = Callable[..., Done]
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def small() -> made.Inventory:
    """The recorded model with the fewest tensors."""
    return min((made.inventory(name).scaled() for name in made.inventories()), key=lambda it: len(it.shapes))


@pytest.fixture
def tensors(small: made.Inventory) -> Tensors:
    return made.tensors_of(small)


@pytest.fixture
def file(folder: Path, tensors: Tensors) -> Path:
    """A sound checkpoint in the working directory."""
    return made.write(tensors, folder / "small.th", config=made.CONFIG)


def left(folder: Path) -> set[str]:
    """What lies there, hidden or not, beside what was there before."""
    return {path.name for path in folder.iterdir()} - {"stubs.py", "good.yaml"}


def ending(tensors: Tensors, end: str) -> str:
    return next(name for name in tensors if name.endswith(end))


# What a sound one gives


def test_a_checkpoint_is_converted_and_reported(x2kit: Subcommand, file: Path, small: made.Inventory) -> None:
    done = x2kit("convert", "small.th", "weights")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("layout: X²-VLM or X-VLM: text and fusion layers in one stack")
    assert lines[1].endswith(" at 224 pixels; heads itc, itm, mlm, bbox")
    assert lines[2] == "texts have no end token, as in X-VLM"
    counted = sum(int(line.split()[0]) for line in lines if line[:5].strip().isdecimal())
    assert counted == len(small.shapes)
    assert "no tokenizer" in done.out
    assert "configuration in the file:\n  image_res: 224\n  embed_dim: 256\n" in done.out
    model = load("weights")
    assert sum(value.numel() for value in model.parameters()) > 0
    assert not model.training


def test_converting_back_restores_tensors_and_extra_entries(
    x2kit: Subcommand, file: Path, tensors: Tensors
) -> None:
    assert x2kit("convert", "small.th", "weights").status == 0
    done = x2kit("convert", "weights", "back.th", "--to", "official")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("back.th: X²-VLM or X-VLM")
    content = torch.load("back.th", weights_only=True)
    assert content["config"] == made.CONFIG
    assert list(content["model"]) == list(tensors)
    assert all(torch.equal(content["model"][name], value) for name, value in tensors.items())


@pytest.mark.parametrize("form", ["small.pth", "bare.th", "small.safetensors"])
def test_files_are_read_bare_or_wrapped_and_as_safetensors(
    x2kit: Subcommand, folder: Path, tensors: Tensors, form: str
) -> None:
    if form.startswith("bare"):
        torch.save(tensors, folder / form)
    else:
        made.write(tensors, folder / form)
    assert x2kit("convert", form, "weights").status == 0
    decoder = load("weights").state_dict()["mlm_head.decoder.weight"]
    assert torch.equal(decoder, tensors[ending(tensors, "word_embeddings.weight")])


def test_the_account_is_given_as_json(x2kit: Subcommand, file: Path, small: made.Inventory) -> None:
    done = x2kit("convert", "small.th", "weights", "--json")
    account = json.loads(done.out)
    assert set(account["keys"]) == set(small.shapes)
    assert sum(account["counts"].values()) == len(small.shapes)
    assert account == json.loads(Path("weights/account.json").read_text())


def test_training_state_is_dropped_and_reported(x2kit: Subcommand, folder: Path, tensors: Tensors) -> None:
    made.write(tensors, folder / "run.th", epoch=3, optimizer={"state": {0: {"step": torch.ones(1)}}})
    done = x2kit("convert", "run.th", "weights")
    assert "dropped: optimizer (" in done.out
    assert json.loads(Path("weights/official.json").read_text())["beside"] == {"epoch": 3}


def test_positions_are_interpolated_for_another_image_size(
    x2kit: Subcommand, file: Path, small: made.Inventory
) -> None:
    size = made.index()[small.name]["config"]["image_res"]
    assert x2kit("convert", "small.th", "weights").status == 0
    done = x2kit("convert", "small.th", "larger", "--image-size", str(2 * size))
    assert (done.status, done.err) == (0, "")
    assert load("larger").image_spec.size == 2 * size == 2 * load("weights").image_spec.size
    keys = json.loads(Path("larger/account.json").read_text())["keys"]
    resized = {key: row["reason"] for key, row in keys.items() if row["fate"] == "resized"}
    assert set(resized) == {"vision_encoder.pos_embed.weight"}
    before, width = small.shapes["vision_encoder.pos_embed.weight"]
    assert (
        resized["vision_encoder.pos_embed.weight"]
        == f"[{before}, {width}] to [{4 * (before - 1) + 1}, {width}]"
    )
    assert "resized" in done.out

    assert x2kit("convert", "larger", "larger.th", "--to", "official").status == 0
    assert x2kit("convert", "larger.th", "again").status == 0
    assert load("again").image_spec.size == 2 * size


def test_heads_are_as_given(x2kit: Subcommand, file: Path) -> None:
    done = x2kit("convert", "small.th", "weights", "--heads", "2")
    assert done.status == 0
    assert "assumed" not in done.out
    recipe = Path("weights/recipe.yaml").read_text()
    assert recipe.count("heads: 2\n") == 2


def test_a_tokenizer_of_the_right_size_makes_the_model_read_texts(
    x2kit: Subcommand, folder: Path, file: Path, tensors: Tensors
) -> None:
    rows = len(tensors[ending(tensors, "word_embeddings.weight")])
    save_tokenizer(folder / "words", rows)
    save_tokenizer(folder / "fewer", rows - 1)
    done = x2kit("convert", "small.th", "weights", "--tokenizer", "words")
    assert done.status == 0
    assert "no tokenizer" not in done.out
    tokenizer = load("weights").tokenizer
    (ids,) = tokenizer.encode(["word7 word9"], 8)
    assert tokenizer.decode(ids) == "word7 word9"
    assert ids == [2, 12, 14]  # a checkpoint of X-VLM: no [SEP]
    assert tokenizer.encode(["word7 word9 word7"], 3) == [[2, 12, 14]]

    done = x2kit("convert", "small.th", "other", "--tokenizer", "fewer")
    assert done.status == 2
    assert f"the tokenizer fewer has {rows - 1} ids, the word embedding {rows} rows" in done.err
    assert not Path("other").exists()


def save_tokenizer(directory: Path, size: int) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: number for number, word in enumerate([*special, *(f"word{n}" for n in range(size - 5))])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    BertTokenizerFast(vocab=vocab).save_pretrained(directory)


PLUGIN = """
from x2kit.plugin import hookimpl
from x2kit_openclip import ClipVision
from x2kit_openclip.encoder import ClipVisionEncoder

class Mine(ClipVision):
    @classmethod
    def from_official(cls, shapes):
        own = {name.removeprefix("mine."): shape for name, shape in shapes.items() if name.startswith("mine.")}
        return super().from_official(own)

    def build(self, assets=None):
        return MineEncoder(self, assets)

class MineEncoder(ClipVisionEncoder):
    def official_names(self, first_layer=0):
        found = super().official_names(first_layer)
        return {own: tuple(f"mine.{name}" for name in names) for own, names in found.items()}

    def official_buffers(self):
        return {f"mine.{name}": value for name, value in super().official_buffers().items()}

@hookimpl
def x2kit_register(registry):
    registry.add(Mine)
"""


def test_an_encoder_of_a_plugin_reads_its_own_checkpoints(
    x2kit: Subcommand, folder: Path, tensors: Tensors
) -> None:
    (folder / "mine.py").write_text(PLUGIN)
    prefix = "vision_encoder."
    renamed = {name.replace(prefix, f"{prefix}mine."): value for name, value in tensors.items()}
    made.write(renamed, folder / "mine.th")
    done = x2kit("convert", "mine.th", "without")
    assert done.status == 2
    assert "no vision component matches its vision encoder, which has mine.class_embedding" in done.err
    done = x2kit("convert", "mine.th", "weights", "--plugin", "mine.py")
    assert done.status == 0, done.err
    assert "model: Mine," in done.out
    assert type(load("weights").vision).__name__ == "MineEncoder"  # its recipe names the plugin


# What a bad one gives


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def a_text(file: Path) -> None:
    file.write_text("image_res: 224\n")


def a_image(file: Path) -> None:
    Image.new("RGB", (8, 8)).save(file, "PNG")


class Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def code(file: Path) -> None:
    torch.save({"model": {"w": torch.ones(1)}, "config": Harmful()}, file)


def another_model(file: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict(), file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "is truncated: the end of the archive is missing"),
        (empty, "is empty"),
        (a_text, "damaged, or not a file of weights (15 bytes, starting with b'image_res: 2')"),
        (a_image, "damaged, or not a file of weights"),
        (code, "reading it would run getattr, and x2kit never runs the code of a file"),
        (another_model, "not an official checkpoint of X²-VLM, CCLM or X-VLM"),
        (Path.unlink, "no such file of weights"),
    ],
)
def test_a_file_must_be_a_checkpoint(
    x2kit: Subcommand, folder: Path, file: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(file)
    done = x2kit("convert", "small.th", "weights")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("small.th: ")
    assert message in done.err
    assert "Traceback" not in done.err
    assert left(folder) <= {"small.th"}  # no weights, nothing half-written, and the code did not run


def without_a_tensor(tensors: Tensors) -> str:
    name = ending(tensors, "encoder.layer.3.output.dense.weight")
    del tensors[name]
    return f"missing: {name}"


def without_a_part(tensors: Tensors) -> str:
    for name in [name for name in tensors if name.startswith("text_encoder.")]:
        del tensors[name]
    return "no key begins with text_encoder."


def with_another_tensor(tensors: Tensors) -> str:
    tensors["momentum_queue"] = torch.ones(2)
    return "unexpected: momentum_queue"


def with_another_shape(tensors: Tensors) -> str:
    name = ending(tensors, "layer.3.output.dense.weight")
    before = list(tensors[name].shape)
    tensors[name] = tensors[name].T.clone()
    return f"other shape: {name} {before[::-1]} instead of {before}"


def with_a_key_of_other_width_than_its_value(tensors: Tensors) -> str:
    name = ending(tensors, "crossattention.self.key.weight")
    before = list(tensors[name].shape)
    tensors[name] = torch.ones(before[0], before[1] + 2)
    return f"other shape: {name} {[before[0], before[1] + 2]} instead of {before}"


def with_a_flat_word_embedding(tensors: Tensors) -> str:
    tensors[ending(tensors, "word_embeddings.weight")] = torch.ones(7)
    return "embeddings.word_embeddings.weight [7]"


def with_an_index_of_other_size(tensors: Tensors) -> str:
    name = ending(tensors, "position_ids")
    before = list(tensors[name].shape)
    tensors[name] = torch.ones(1, 2)
    return f"other shape: {name} [1, 2] instead of {before}"


def with_a_wider_vision_encoder(tensors: Tensors) -> str:
    name = "vision_proj.weight"
    before = list(tensors[name].shape)
    tensors[name] = torch.ones(before[0], before[1] + 8)
    return f"other shape: {name} {[before[0], before[1] + 8]} instead of {before}"


SPOILT = [
    without_a_tensor,
    without_a_part,
    with_another_tensor,
    with_another_shape,
    with_a_key_of_other_width_than_its_value,
    with_a_flat_word_embedding,
    with_an_index_of_other_size,
    with_a_wider_vision_encoder,
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_written(
    x2kit: Subcommand, folder: Path, tensors: Tensors, spoil: Callable[[Tensors], str]
) -> None:
    message = spoil(tensors)
    made.write(tensors, folder / "small.th")
    done = x2kit("convert", "small.th", "deep/weights")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("small.th: ")
    assert message in done.err
    assert "Traceback" not in done.err
    assert left(folder) == {"small.th"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-size", "225"], "225 pixels are not a multiple of"),
        (["--heads", "7"], "heads: 7 heads do not divide the width"),
        (["--heads", "0"], "heads: Input should be greater than"),
        (["--tokenizer", "."], "tokenizer"),
        (["--plugin", "nowhere.py"], "nowhere.py"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    x2kit: Subcommand, folder: Path, file: Path, options: list[str], message: str
) -> None:
    done = x2kit("convert", "small.th", "weights", *options)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert left(folder) == {"small.th"}


def test_a_nonempty_directory_is_not_changed(x2kit: Subcommand, folder: Path, file: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "mine.txt").write_text("mine")
    done = x2kit("convert", "small.th", "weights")
    assert done.status == 2
    assert done.err.startswith("weights: exists and is not empty")
    assert [path.name for path in (folder / "weights").iterdir()] == ["mine.txt"]
    assert (folder / "weights" / "mine.txt").read_text() == "mine"


def test_an_empty_directory_is_filled_by_a_sound_checkpoint_alone(
    x2kit: Subcommand, folder: Path, file: Path, tensors: Tensors
) -> None:
    (folder / "weights").mkdir()
    made.write({**tensors, "more": torch.ones(1)}, folder / "bad.th")
    assert x2kit("convert", "bad.th", "weights").status == 2
    assert list((folder / "weights").iterdir()) == []
    assert x2kit("convert", "small.th", "weights").status == 0
    assert (folder / "weights" / "model.safetensors").is_file()


def test_an_unwritable_target_is_named(x2kit: Subcommand, folder: Path, file: Path) -> None:
    done = x2kit("convert", "small.th", "small.th/weights")
    assert done.status == 2
    assert done.err.startswith("small.th/weights: cannot be written: ")
    assert left(folder) == {"small.th"}


def test_ctrl_c_while_weights_are_written_leaves_nothing(
    x2kit: Subcommand, folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(model: Any, recipe: str, directory: Path) -> NoReturn:
        (directory / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(interop, "save_weights", interrupted)
    assert x2kit("convert", "small.th", "weights").status == 130
    assert left(folder) == {"small.th"}


def test_directions_are_not_mixed_up(x2kit: Subcommand, folder: Path, file: Path) -> None:
    done = x2kit("convert", "small.th", "small.pth", "--to", "official")
    assert done.status == 2
    assert "small.th: no weights; expected" in done.err
    (folder / "weights").mkdir()
    done = x2kit("convert", "weights", "out.th")
    assert done.status == 2
    assert "weights: is a directory; --to official" in done.err
    done = x2kit("convert", "weights", "out.th", "--to", "official", "--image-size", "384", "--json")
    assert done.status == 2
    assert done.err.startswith("--image-size, --json: not allowed with --to official")


@pytest.mark.parametrize(
    ("target", "message"),
    [("small.th", "exists already"), ("back.bin", "expected a name that ends in .th")],
)
def test_converting_back_overwrites_nothing(
    x2kit: Subcommand, folder: Path, file: Path, target: str, message: str
) -> None:
    before = file.read_bytes()
    assert x2kit("convert", "small.th", "weights").status == 0
    done = x2kit("convert", "weights", target, "--to", "official")
    assert done.status == 2
    assert message in done.err
    assert file.read_bytes() == before
    assert left(folder) == {"small.th", "weights"}
