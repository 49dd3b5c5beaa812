"""Public API for plugin authors; helpers are in `x2kit.plugin.toolkit`.

Names that need torch or numpy are imported lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from x2kit.errors import (
    DataError,
    HeadError,
    PluginError,
    Reason,
    SettingError,
    ShapeError,
    WeightsError,
    WidthError,
    X2KitError,
)
from x2kit.plugin.choice import Location, NameOrPath
from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    HeadConfig,
    IndexConfig,
    ObjectiveConfig,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.plugin.facts import FusionFacts, ImageSpec, Published, TextFacts, VisionFacts
from x2kit.plugin.hookspecs import API_VERSION, hookimpl
from x2kit.plugin.loading.deprecation import DEPRECATED, warn_deprecated
from x2kit.plugin.loading.subcommands import Subcommands
from x2kit.plugin.objectives import EncodedTexts, MeanOver, Objective, StreamFeatures
from x2kit.plugin.registry import Registry
from x2kit.plugin.sources import Composed, Located, Place, Record, Region, Renewing, Source
from x2kit.plugin.tasks import STEP_LOSSES, PretrainingConfig, RowLayout
from x2kit.plugin.tokenizers import IdsOnly, SpecialIds, Tokenizer, WithoutEnd, framed
from x2kit.plugin.toolkit.item_values import ItemValues, Ranking
from x2kit.plugin.toolkit.official_keys import NameTable, Shapes
from x2kit.plugin.training import (
    OptimizerConfig,
    ParameterGroup,
    Reporter,
    ReporterConfig,
    RunFacts,
    RunStatus,
    Sharding,
)

if TYPE_CHECKING:
    from x2kit.distributed.ranks import Ranks
    from x2kit.plugin.encoders import (
        Context,
        FusionEncoder,
        Past,
        TextDecoder,
        TextEncoder,
        VisionEncoder,
        VisionFeatures,
        causal_mask,
    )
    from x2kit.plugin.indexes import (
        BuildReport,
        ColumnType,
        Hit,
        Index,
        IndexSpec,
        IndexStats,
        Progress,
        Rows,
        rank_hits,
    )
    from x2kit.plugin.tasks import (
        EncodedRow,
        FusedTexts,
        Prediction,
        Pretraining,
        RankedText,
        Reader,
        Task,
        TaskContext,
        TaskRow,
        Texts,
        View,
    )
    from x2kit.plugin.toolkit.gather import gather_rows
    from x2kit.plugin.toolkit.packed import GroupedTokens, PackedContext, TokenGroup

_LAZY = {
    "Context": "plugin.encoders",
    "FusionEncoder": "plugin.encoders",
    "Past": "plugin.encoders",
    "TextDecoder": "plugin.encoders",
    "TextEncoder": "plugin.encoders",
    "VisionEncoder": "plugin.encoders",
    "VisionFeatures": "plugin.encoders",
    "causal_mask": "plugin.encoders",
    "gather_rows": "plugin.toolkit.gather",
    "BuildReport": "plugin.indexes",
    "ColumnType": "plugin.indexes",
    "Hit": "plugin.indexes",
    "Index": "plugin.indexes",
    "IndexSpec": "plugin.indexes",
    "IndexStats": "plugin.indexes",
    "Progress": "plugin.indexes",
    "Rows": "plugin.indexes",
    "rank_hits": "plugin.indexes",
    "Ranks": "distributed.ranks",
    "GroupedTokens": "plugin.toolkit.packed",
    "PackedContext": "plugin.toolkit.packed",
    "TokenGroup": "plugin.toolkit.packed",
    "EncodedRow": "plugin.tasks",
    "FusedTexts": "plugin.tasks",
    "Prediction": "plugin.tasks",
    "RankedText": "plugin.tasks",
    "Pretraining": "plugin.tasks",
    "Reader": "plugin.tasks",
    "Task": "plugin.tasks",
    "TaskContext": "plugin.tasks",
    "TaskRow": "plugin.tasks",
    "Texts": "plugin.tasks",
    "View": "plugin.tasks",
}

__all__ = [
    "API_VERSION",
    "STEP_LOSSES",
    "BuildReport",
    "ColumnType",
    "ComponentConfig",
    "Composed",
    "Context",
    "DataError",
    "EncodedRow",
    "EncodedTexts",
    "FusedTexts",
    "FusionEncoder",
    "FusionEncoderConfig",
    "FusionFacts",
    "GroupedTokens",
    "HeadConfig",
    "HeadError",
    "Hit",
    "IdsOnly",
    "ImageSpec",
    "Index",
    "IndexConfig",
    "IndexSpec",
    "IndexStats",
    "ItemValues",
    "Located",
    "Location",
    "MeanOver",
    "NameOrPath",
    "NameTable",
    "Objective",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PackedContext",
    "ParameterGroup",
    "Past",
    "Place",
    "PluginError",
    "Prediction",
    "Pretraining",
    "PretrainingConfig",
    "Progress",
    "Published",
    "RankedText",
    "Ranking",
    "Ranks",
    "Reader",
    "Reason",
    "Record",
    "Region",
    "Registry",
    "Renewing",
    "Reporter",
    "ReporterConfig",
    "RowLayout",
    "Rows",
    "RunFacts",
    "RunStatus",
    "SettingError",
    "ShapeError",
    "Shapes",
    "Sharding",
    "Source",
    "SourceConfig",
    "SpecialIds",
    "StreamFeatures",
    "Subcommands",
    "Task",
    "TaskConfig",
    "TaskContext",
    "TaskRow",
    "TextDecoder",
    "TextEncoder",
    "TextEncoderConfig",
    "TextFacts",
    "Texts",
    "TokenGroup",
    "Tokenizer",
    "View",
    "VisionEncoder",
    "VisionEncoderConfig",
    "VisionFacts",
    "VisionFeatures",
    "WeightsError",
    "WidthError",
    "WithoutEnd",
    "X2KitError",
    "causal_mask",
    "framed",
    "gather_rows",
    "hookimpl",
    "rank_hits",
]


def __getattr__(name: str) -> Any:
    if name in DEPRECATED:
        warn_deprecated(name, DEPRECATED[name])
    if name in _LAZY:
        return getattr(import_module(f"x2kit.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
