"""What the pages for people who come from other code name of ours exists, and so does what they name of OpenCLIP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from x2kit.cli import SUBCOMMANDS
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.registry import KINDS
from x2kit.recipe.catalogue import folder, shipped
from x2kit.recipe.schema import ROOT as RECIPE
from x2kit.recipe.schema import SECTIONS, Component, Entries, Section, below

from .pages import DOCS

PAGES = sorted((DOCS / "coming-from").glob("*.md"))
REGISTRY = load_plugins().registry
SETTINGS = {
    kind: {
        name for entry in REGISTRY if entry.component.kind == kind for name in entry.component.model_fields
    }
    for kind in KINDS
}
"""Names of settings by kind of component."""


OFFICIAL = """
print_broken_data train_file train_dataset_size train_file_aux aux_iter_perc train_file_regions
train_file_videos train_file_videos_aux video_aux_iter_perc train_file_mtext image_key is_image_rpath
caption_key aux_caption_key tokenized batch_size num_workers iter_perc max_images max_regions
min_perc_in_image code_switch careful_hflip source_key target_key frame_len use_random_sampling
combine_continuous_clips mininum_frames_before_sampling use_beit_v2 use_swin use_clip_vit vision_config
image_res patch_size local_attn_depth add_frame_pos video_encoding use_roberta text_config text_encoder
text_num_hidden_layers text_fusion_start_at load_bertL_by_sep model_type cross_encoder
cross_num_hidden_layers is_xvlm_ckpt xvlm_ckpt_text_num_hidden_layers replace_text_encoder mixed_in_batch
calc_image_bbox_loss embed_dim temp max_words max_tokens mask_prob max_masks mask_whole_word skipgram_prb
skipgram_size stop_calc_itm ckpt_frequent_step ckpt_frequent optimizer.opt optimizer.lr
optimizer.weight_decay optimizer.lr_mult optimizer.vision_lr optimizer.text_lr optimizer.cross_lr
schedular.sched schedular.lr schedular.epochs schedular.num_warmup_steps accelerator.SYNCBN
accelerator.FP16_OPT_LEVEL accelerator.FP16_LOSS_SCALE accelerator.RNG_SEED
accelerator.GRAD_ACCUMULATE_STEPS accelerator.CLIP_GRAD_NORM val_file test_file image_root batch_size_train
batch_size_test batch_size_test_text k_test use_one_cl_proj_only text_drop_path_rate cross_drop_path_rate
"""
"""Keys of the configurations that were published: all for pretraining (X2-VLM at bad762d, X-VLM at 3f6409e), retrieval
of CCLM (af3908f), RefCOCO+ of X2-VLM but its files."""


def rows(page: Path) -> Iterator[tuple[str, str]]:
    """First and last cell of the lines of its tables: theirs and ours."""
    for line in re.findall(r"^\| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        cells = line.split(" | ")
        yield cells[0], cells[-1]


def ours(page: Path) -> list[str]:
    """What stands in code font in the column of ours."""
    return [name for _, cell in rows(page) for name in re.findall(r"`([^`]+)`", cell)]


def is_key(path: list[str]) -> bool:
    """Whether a recipe has such a key; settings of components are those of any component of the kind."""
    shape = below(RECIPE, path[0])
    for place, name in enumerate(path[1:], 1):
        if isinstance(shape, Component):
            return name in SETTINGS[shape.kind] and place == len(path) - 1
        if isinstance(shape, Section) and name not in shape.model.model_fields:
            return False
        if not isinstance(shape, Section | Entries):
            return False
        shape = below(shape, name)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_recipe_key_exists(page: Path) -> None:
    named = [name.split(" ")[0].removeprefix("--") for name in ours(page)]
    keys = [name for name in named if re.fullmatch(rf"({'|'.join(SECTIONS)})(\.\w+)+", name)]
    assert keys
    assert not [key for key in keys if not is_key(key.split("."))]


@pytest.mark.parametrize(
    "path", ["training.rate", "data.streams.S.masking.probability", "model.vision.colour"]
)
def test_a_key_that_is_not_there_is_found(path: str) -> None:
    assert not is_key(path.split("."))
    assert is_key(["training", "lr"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_recipe_component_and_subcommand_exists(page: Path) -> None:
    names = ours(page) + re.findall(r"`([^`|]+/[^`]+)`", page.read_text(encoding="utf-8"))
    groups = {place.name for place in folder().iterdir()}
    recipes = {str(file.name) for file in shipped()}
    of_recipes = {name for name in names if name.split("/")[0] in groups}
    assert of_recipes <= recipes, of_recipes - recipes
    subcommands = [name.split(" ")[1] for name in ours(page) if name.startswith("x2kit ")]
    assert subcommands
    assert set(subcommands) <= set(SUBCOMMANDS)
    registered = {entry.component.component_name() for entry in REGISTRY}
    bases = {base.__name__ for base in KINDS.values()}
    capitals = {name for name in ours(page) if re.fullmatch(r"[A-Z][a-z]+\w*", name)}
    assert capitals - bases - {"ImageSpec"} <= registered, capitals - registered


def test_every_key_of_the_official_configurations_has_a_line() -> None:
    theirs = [
        name
        for cell, _ in rows(DOCS / "coming-from" / "official-code.md")
        for name in re.findall(r"`([^`:]+)", cell)
    ]
    assert not [key for key in OFFICIAL.split() if key not in theirs]


def test_every_option_of_openclip_is_one_of_the_installed_version() -> None:
    """Their file is read, not imported: it wants packages for training that are not needed here."""
    import open_clip_train

    known = (Path(open_clip_train.__path__[0]) / "params.py").read_text(encoding="utf-8")
    text = (DOCS / "coming-from" / "openclip-and-lavis.md").read_text(encoding="utf-8")
    table = text.partition("## Options of OpenCLIP")[2].partition("\n## ")[0]
    options = [
        option for cell in re.findall(r"^\| (.+?) \| ", table, re.MULTILINE)
        for option in re.findall(r"--[a-z][a-z\d-]+", cell)
    ]  # fmt: skip
    assert len(options) > 40
    assert not [option for option in options if f'"{option}"' not in known]
