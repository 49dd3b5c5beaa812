"""Settings of the captioning task. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from x2kit.plugin.choice import FROM_HERE, HARMLESS, Location
from x2kit.plugin.components import TaskConfig

if TYPE_CHECKING:
    from x2kit.plugin.tasks import TaskContext
    from x2kit.tasks.captioning.task import CaptioningTask

Form = Literal["insert", "replace", "causal"]
JavaMetric = Literal["meteor", "spice"]


class Captioning(TaskConfig):
    """Captions written from left to right with the masked-language head, as X²-VLM and X-VLM do.

    Records have an image or video, and captions; those of a split without captions are written and not measured.
    """

    losses: ClassVar[tuple[str, ...]] = ("caption",)
    produces: ClassVar[Literal["description"]] = "description"
    score: ClassVar[str] = "cider"
    pooled: ClassVar[bool] = False

    form: Form = Field(
        "insert",
        description="how captions are learnt and read: insert, masks in front of chosen tokens, which stay (X²-VLM, "
        "apply_FG_free); replace, masks in place of chosen tokens; causal, every token from those before (X-VLM)",
    )
    prompt: str = Field("a picture of", description="first words of every caption, which are not predicted")
    clean: bool = Field(
        False,
        description="train on cleaned captions, as in pretraining (X-VLM), instead of raw ones (X²-VLM)",
    )
    label_smoothing: Annotated[float, FROM_HERE] = Field(
        0.1, ge=0, lt=1, description="probability taken from the correct token"
    )
    mask_prob: Annotated[float, FROM_HERE] = Field(
        0.6, gt=0, le=1, description="insert, replace: share of the tokens behind the prompt to predict"
    )
    max_masks: Annotated[int, FROM_HERE] = Field(
        18, gt=0, description="insert, replace: maximum number of tokens to predict per caption"
    )
    skipgram_prob: Annotated[float, FROM_HERE] = Field(
        0.2, ge=0, le=1, description="insert, replace: probability of masking a span instead of one token"
    )
    skipgram_size: Annotated[int, FROM_HERE] = Field(
        3, ge=2, description="insert, replace: maximum length of a span, in tokens"
    )
    whole_words: Annotated[bool, FROM_HERE] = Field(
        True, description="insert, replace: mask all pieces of a word together"
    )

    num_beams: Annotated[int, HARMLESS] = Field(
        3, gt=0, description="texts that beam search keeps for each image; 1 is greedy search"
    )
    min_length: Annotated[int, HARMLESS] = Field(
        5, ge=0, description="tokens of a written caption before it may end"
    )
    max_length: Annotated[int, HARMLESS] = Field(
        50, gt=0, description="maximum number of tokens of a written caption, without the prompt"
    )
    length_penalty: Annotated[float, HARMLESS] = Field(
        0.0,
        description="exponent of ((5 + length) / 6), which divides the log-likelihood of a caption; with refill of the "
        "number of tokens, prompt included",
    )
    unique_ngrams: Annotated[int | None, HARMLESS] = Field(
        3, ge=2, description="n-grams of this size occur at most once in a written caption; null for no limit"
    )
    refill: Annotated[bool, HARMLESS] = Field(
        False,
        description="beam search of X-VLM (transformers 4.12): the next best text takes the beam of one that ended in "
        "the same step",
    )
    java_metrics: Annotated[tuple[JavaMetric, ...], HARMLESS] = Field(
        (), description="metrics of pycocoevalcap besides those of x2kit: meteor, spice; they need Java"
    )

    objective: Literal["likelihood", "cider"] = Field(
        "likelihood",
        description="likelihood of captions, or the CIDEr stage behind it: self-critical training on sampled captions",
    )
    samples: Annotated[int, FROM_HERE] = Field(5, gt=0, description="cider: captions sampled for each image")
    sample_length: Annotated[int, FROM_HERE] = Field(
        20,
        gt=1,
        description="cider: maximum number of tokens of a sampled or greedy caption, without the prompt",
    )
    baseline: Annotated[Literal["greedy", "samples"], FROM_HERE] = Field(
        "greedy",
        description="cider: reward that is subtracted: of the greedy caption, or the mean of the other samples",
    )
    frequencies: Location | None = Field(
        None,
        description="cider: JSON file of the training captions (a list of entries, or the layout of COCO), in which "
        "document frequencies are counted",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Captioning:
        if self.min_length >= self.max_length:
            raise ValueError(f"min_length {self.min_length}: must be below max_length {self.max_length}")
        if self.objective == "cider" and self.frequencies is None:
            raise ValueError("objective cider needs frequencies, a file of the training captions")
        if self.objective == "cider" and self.baseline == "samples" and self.samples < 2:
            raise ValueError("baseline samples needs two samples or more")
        return self

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require the masked-language head."""
        return {} if "mlm" in heads.built else {"built": "no masked-language head; add mlm"}

    def build(self) -> CaptioningTask:
        """Build the task."""
        from x2kit.tasks.captioning.task import CaptioningTask

        return CaptioningTask(self)

    def check(self, context: TaskContext) -> None:
        """Raise SettingError if metrics of pycocoevalcap are set and it is not installed."""
        if self.java_metrics:
            from x2kit.tasks.captioning.java_metrics import require_installed

            require_installed(self.java_metrics)
