"""Objectives of the paper as pure functions of tensors.

They keep no state and draw only from a generator that is passed in. With several ranks the caller first gathers
the rows with `gather_over_processes`.
"""

from x2kit.distributed.gather import GatherGradient, gather_over_processes
from x2kit.objectives.answers import answer_log_likelihood, chosen_answer_loss, written_answer_loss
from x2kit.objectives.boxes import bbox_loss, giou_loss
from x2kit.objectives.captions import (
    leave_one_out,
    mean_log_probability,
    next_token_loss,
    self_critical_loss,
)
from x2kit.objectives.contrastive import contrastive_logits, itc_loss
from x2kit.objectives.masked_language import caption_loss, mlm_loss
from x2kit.objectives.matching import draw_negatives, itm_loss, negative_weights
from x2kit.objectives.text_assignment import Assignment, assign_images, similar_image_weights

__all__ = [
    "Assignment",
    "GatherGradient",
    "answer_log_likelihood",
    "assign_images",
    "bbox_loss",
    "caption_loss",
    "chosen_answer_loss",
    "contrastive_logits",
    "draw_negatives",
    "gather_over_processes",
    "giou_loss",
    "itc_loss",
    "itm_loss",
    "leave_one_out",
    "mean_log_probability",
    "mlm_loss",
    "negative_weights",
    "next_token_loss",
    "self_critical_loss",
    "similar_image_weights",
    "written_answer_loss",
]
