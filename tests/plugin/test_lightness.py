from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "open_clip",
    "sentencepiece",
    "numpy",
    "wandb",
    "mlflow",
    "lancedb",
    "pyarrow",
    "faiss",
    "qdrant_client",
    "sqlglot",
)


@pytest.mark.parametrize(
    "statement",
    [
        "import x2kit.plugin",
        "from x2kit.plugin.loading.manager import load_plugins; load_plugins()",
        "import x2kit.cli.plugins",
        "import x2kit.model.config, x2kit.data.config, x2kit.training.config, x2kit.evaluation.config",
    ],
)
def test_settings_and_plugins_import_no_model_library(statement: str) -> None:
    code = f"import sys; {statement}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == []


def test_every_public_name_exists() -> None:
    import x2kit.plugin

    for name in x2kit.plugin.__all__:
        assert getattr(x2kit.plugin, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Unheard'"):
        _ = x2kit.plugin.Unheard
