"""Catalogue of published models: names, addresses, hashes and facts. Imports no torch.

The shipped entries are in catalogue.yaml. `$X2KIT_CATALOGUE` names a file of the same form with further entries; an
entry with the name of a shipped one replaces it, for example with a mirror's address.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from x2kit.errors import WeightsError

OWN = "X2KIT_CATALOGUE"
"""Environment variable that names a file with further entries."""
SHIPPED = Path(__file__).with_name("catalogue.yaml")
_TAG = r"^[a-z0-9][a-z0-9.-]*$"
_FILE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"


class PublishedModel(BaseModel):
    """One published checkpoint; None where nothing was published.

    Attributes:
        name: the tag, from the key of the entry.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_TAG, description="the tag")
    title: str = Field(description="one line")
    address: str | None = Field(
        None, description="https address of the file, for a download without a browser"
    )
    page: str | None = Field(None, description="address of a page from which a person downloads the file")
    file: str = Field(pattern=_FILE, description="name of the checkpoint in the cache")
    archive: str | None = Field(
        None, pattern=_FILE, description="name of the tar archive that is published instead of the file"
    )
    member: str | None = Field(
        None, description="end of the checkpoint's path in the archive; null for its only checkpoint"
    )
    size: Annotated[int, Field(gt=0)] | None = Field(None, description="bytes of the download")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="of the download")
    parameters: Annotated[int, Field(gt=0)] | None = Field(None, description="number of parameters")
    languages: tuple[str, ...] = Field((), description="languages trained with images")
    tasks: tuple[str, ...] = Field((), description="uses of the checkpoint as it is")
    licence: str | None = Field(None, description="SPDX identifier of the licence of the repository")
    tokenizer: str | None = Field(None, description="published name of the tokenizer")
    image_size: Annotated[int, Field(gt=0)] | None = Field(None, description="height and width in pixels")
    recipe: str | None = Field(None, description="recipe of the same architecture")
    overlays: tuple[str, ...] = Field((), description="overlays of that recipe")
    source: str | None = Field(None, description="where the address was published")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.address is None) == (self.page is None):
            raise ValueError("give one of address and page")
        if self.member is not None and self.archive is None:
            raise ValueError("member: has no effect without archive")
        return self

    @property
    def download(self) -> str:
        """Name of the published file in the cache: the archive, or the checkpoint."""
        return self.archive or self.file


def catalogue() -> Mapping[str, PublishedModel]:
    """Return all entries by name: the shipped ones, then those of `$X2KIT_CATALOGUE`.

    Raises: WeightsError for a file that is missing or invalid.
    """
    found = dict(_read_shipped())
    if own := os.environ.get(OWN):
        found |= read_catalogue(Path(own).expanduser(), f"{OWN}={own}")
    return found


def read_catalogue(file: Path, where: str) -> dict[str, PublishedModel]:
    """Read a catalogue file; `where` begins every message. Raises WeightsError with every fault."""
    try:
        tree: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{where}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or an invalid date
        raise WeightsError(f"{where}: not YAML: {error}") from error
    models = tree.get("models") if isinstance(tree, dict) else None
    if not isinstance(models, dict) or set(tree) != {"models"}:
        raise WeightsError(f"{where}: expected one key, models, with an entry for each name")
    found, faults = {}, []
    for name, entry in models.items():
        if not isinstance(entry, dict) or "name" in entry:
            faults.append(f"{where}: models.{name}: expected a mapping without the key name")
            continue
        try:
            found[str(name)] = PublishedModel.model_validate({"name": str(name), **entry})
        except ValidationError as error:
            faults += [
                f"{where}: {'.'.join(map(str, ('models', name, *fault['loc'])))}: {fault['msg']}"
                for fault in error.errors(include_url=False)
            ]
    if faults:
        raise WeightsError("\n".join(faults))
    return found


@lru_cache(maxsize=1)
def _read_shipped() -> dict[str, PublishedModel]:
    return read_catalogue(SHIPPED, str(SHIPPED))
