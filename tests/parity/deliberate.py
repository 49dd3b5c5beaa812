"""Deliberate differences from the official code, with the setting that restores official behaviour."""

from __future__ import annotations

from .evidence import Deliberate

DELIBERATE: list[Deliberate] = [
    Deliberate(
        "Gradients of the contrastive loss over several processes are those of one process with all rows",
        '`gather_over_processes(..., gradient="official")`: a process gets back what its own loss says of its rows',
        "averaged over n processes, the official gradient of the encoders is an nth of that of the loss, while the "
        "temperature has all of it: the number of devices changes what is trained",
    ),
    Deliberate(
        "Cross-attention that a cross encoder begins anew learns `training.lr_mult` times as fast, as everything new",
        "`training.fusion_lr`: one rate for the whole cross encoder (CCLM's official recipes give it one anyway)",
        "the official code counts it as new in the stack of X²-VLM, but forgets it beside a cross encoder",
    ),
    Deliberate(
        "AdamW is torch's",
        "`training.optimizer: OfficialAdamW`: ε beside √v before the bias correction, decay after the Adam step",
        "torch's is fused and is what its documentation and most papers mean; the losses of the recorded runs differ "
        "by up to 1e-4",
    ),
    Deliberate(
        "`training.text_lr` is the rate of the text encoder alone; fusion layers and the masked-language head have "
        "`training.lr`, times `lr_mult` where they are new",
        "`training.fusion_lr` and `training.mlm_head_lr` as `text_lr`: in the official image-text model both are "
        "inside the text encoder (in CCLM they stand apart, as here)",
        "parts that can be exchanged one by one have rates one by one",
    ),
    Deliberate(
        "Candidates of retrieval are ordered by similarity and matching together, the rest by similarity",
        "`evaluation.tasks.NAME.rerank: matching` and `top_k` (the official k_test): the matching logit alone, -100 "
        "for the rest; ties still count against us, where the official sort leaves them to chance",
        "a weak matching head then improves on similarity instead of undoing it; both numbers are reported",
    ),
    Deliberate(
        "A box touches a patch if it reaches more than 1e-12 of a patch's side into it",
        "none: the official code counts every edge beyond a border, the rounding error of its float64 arithmetic too",
        "an edge on a border would otherwise touch the next patch or not as the image's size happens to round",
    ),
    Deliberate(
        "The longest caption is counted in tokens of its own (`Search.max_length`)",
        "`max_length` = images of the call + the official `max_length` - tokens of the prompt",
        "officially an image's caption may be longer the more other images are in the call",
    ),
    Deliberate(
        "Weak grounding takes the detection of the highest score, positive or not",
        "none: where no score is above 0 the official code keeps the box of the image before, and fails on the first",
        "the box of another image is an answer by chance",
    ),
    Deliberate(
        "A detection that begins left of or above its image is cut to it before its map is summed",
        "none: a negative corner counts from the other side of the image officially, so the sum is that of another "
        "place or 0",
        "detectors may exceed the image by a little",
    ),
    Deliberate(
        "The map of a text in weak grounding is the mean over its own tokens",
        "none: the official mean counts padding, so the map is smaller by tokens / longest text of the batch",
        "the order of the boxes is the same, and a map does not depend on the other texts of the batch",
    ),
    Deliberate(
        "Where the k answers to rank cut through answers with the same first token, those first in the list are scored",
        "none: which of them the official code scores depends on torch's sort, and so on the device",
        "the answer to a question must not depend on the machine",
    ),
    Deliberate(
        "Annotators are identified by their position in the list of answers",
        "none: the official metric compares whole records, and without `answer_id` leaves out all equal answers",
        "the published files for fine-tuning have no `answer_id`; with it both are equal",
    ),
    Deliberate(
        "Questions of a step without any answer of the list have the loss 0 (MSRVTT-QA, MSVD-QA)",
        "none: officially the mean over no row, which is not a number, ends the run",
        "small batches may hold only rare answers",
    ),
    Deliberate(
        "Captions of the CIDEr stage are sampled in evaluation mode, and scored in one pass in training mode",
        "none: officially each is sampled and scored token by token with dropout",
        "keys and values are kept while sampling, which needs no gradients; without dropout both are equal",
    ),
]
