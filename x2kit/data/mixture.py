"""Several sources mixed by weight: settings. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from x2kit.errors import SettingError
from x2kit.plugin.choice import SourceChoice
from x2kit.plugin.components import SourceConfig

if TYPE_CHECKING:
    from x2kit.data.mixture_source import MixtureSource

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Mixture(SourceConfig):
    """Several sources as one, each with its share of the records, whatever their sizes."""

    sources: dict[str, SourceChoice] = Field(min_length=1, description="the sources by names of your choice")
    weights: dict[str, Weight] = Field(
        description="the share of each source, by the same names: {web: 3, coco: 1} gives three records of web "
        "for one of coco, in every stretch of records"
    )

    @model_validator(mode="after")
    def _each_has_a_weight(self) -> Self:
        if set(self.weights) != set(self.sources):
            raise ValueError(
                f"weights are for {', '.join(self.weights) or 'nothing'}, sources are {', '.join(self.sources)}; "
                "give each source one weight"
            )
        return self

    def check(self) -> None:
        """Raise SettingError for weights that make no pattern, and what the sources raise, with their names."""
        from x2kit.data.interleaving import whole_shares

        whole_shares([self.weights[name] for name in self.sources])
        for name, source in self.sources.items():
            try:
                source.check()
            except SettingError as error:
                raise type(error)(f"sources.{name}.init_args.{error.setting}", error.message) from error

    def languages(self) -> tuple[str, ...] | None:
        """Those of all sources; None if one of them does not tell."""
        known = [source.languages() for source in self.sources.values()]
        told = [codes for codes in known if codes is not None]
        return (
            tuple(dict.fromkeys(code for codes in told for code in codes))
            if len(told) == len(known)
            else None
        )

    def open(self) -> MixtureSource:
        """The mixed records. Raises what opening the sources raises."""
        from x2kit.data.mixture_source import MixtureSource

        return MixtureSource(self)

    def for_split(self, split: str) -> Self:
        """The same mixture of another split of all sources. Raises SettingError if one of them has none."""
        parts = {name: source.for_split(split) for name, source in self.sources.items()}
        return self.model_copy(update={"sources": parts})
