"""The recorded values of text assignment (tasks_more/nlvr_text_assignment)."""

from __future__ import annotations

import torch
from torch import Tensor
from x2kit_fusion import DoubledCross

from x2kit.data.pipeline.batch import TaskRows
from x2kit.objectives.text_assignment import Assignment, place_images, similar_image_weights
from x2kit.plugin.tasks import Texts
from x2kit.tasks import LinearHead, TextAssignment
from x2kit.tasks.nlvr.task import TextAssignmentTask
from x2kit.training.step.fusion_pass import FusionPass
from x2kit.training.step.tasks import add_task_rows, task_losses, with_chosen_images

from .evidence import check, check_equal
from .tasks_more import Files, features, recorded, task_model
from .test_two_images import LOSS, STATES, check_doubled, check_gradients, under

FILES = Files("tasks_more/nlvr_text_assignment.json", "tasks_more/nlvr_text_assignment.safetensors")
FACTS, TENSORS = recorded(FILES)


def test_negatives_are_drawn_by_similarity_of_images() -> None:
    task = task_model("xvlm", DoubledCross, built=("itc",))
    images = features("xvlm", task.model).summary[TENSORS["in.image_rows"]]
    found = task.model.project_images(images)
    check(FILES.tensors, "out.image_feat", found, TENSORS["out.image_feat"], atol=1e-5)
    weights = similar_image_weights(found, torch.arange(len(found)))
    check(FILES.tensors, "out.draw_weights", weights, TENSORS["out.draw_weights"], atol=1e-5)


def test_draws_place_the_images() -> None:
    """The recorded random numbers, in their order, give the recorded images and labels."""
    for name in [name for name in FACTS if name.startswith("draw")]:
        log = iter(FACTS[name]["log_of_draws"])
        negatives, labels = [], []
        for _ in FACTS[name]["labels"]:
            without = next(log)[1] <= 1 / 3
            drawn = next(log)[1]
            negatives.append((drawn * 2)[:2])
            labels.append(2 if without else int(next(log)[1] <= 0.5))
        check_equal(FILES.facts, f"{name}.labels", labels, FACTS[name]["labels"])
        own = torch.arange(len(labels))
        found = place_images(own, torch.tensor(negatives), torch.tensor(labels))
        for place, column in zip(("first", "second"), found.T, strict=True):
            check_equal(
                FILES.tensors, f"{name}.in.{place}_picture_of_text",
                column.tolist(), TENSORS[f"{name}.in.{place}_picture_of_text"].tolist(),
            )  # fmt: skip


class Redrawn(TextAssignmentTask):
    """Chooses the recorded images."""

    def __init__(self, draw: dict[str, Tensor], labels: list[int]) -> None:
        super().__init__(TextAssignment())
        pair = draw["in.first_picture_of_text"], draw["in.second_picture_of_text"]
        self._assigned = Assignment(torch.stack(pair, 1), torch.tensor(labels))

    def assign(self, projected: Tensor, own: Tensor) -> Assignment:
        return self._assigned._replace(images=own[self._assigned.images])


def test_losses_of_the_draws() -> None:
    heads = {"built": ("itc",), "extra": {"assignment": LinearHead(outputs=3)}}
    task = task_model("xvlm", DoubledCross, **heads)
    check_doubled(FILES.facts, "xvlm", task, FACTS)
    task.set(TENSORS)
    for name in [name for name in FACTS if name.startswith("draw")]:
        draw, every = under(TENSORS, f"{name}."), slice(None)
        images = features("xvlm", task.model)
        texts = Texts(draw["in.text_ids"], draw["in.text_atts"].bool())
        assignment = Redrawn(draw, FACTS[name]["labels"])
        given = TaskRows(TENSORS["in.image_rows"][:, None], (texts,), {})
        rows = with_chosen_images(task.model, "rows", assignment, given, images)
        assert isinstance(rows, TaskRows)
        fusion = FusionPass()
        tokens = task.model.encode_texts(texts.ids, texts.mask)
        add_task_rows(fusion, "rows", assignment, rows, [tokens], images, every)
        fused = fusion.run(task.model, images)
        states = fused["rows", "0"][:, 0]
        check(FILES.tensors, f"{name}.out.head_input", states, draw["out.head_input"], atol=STATES)
        logits = task.model.extra_heads["assignment"](states)
        check(FILES.tensors, f"{name}.out.logits", logits, draw["out.logits"], atol=STATES)
        losses = task_losses(task.model, "rows", assignment, rows, ("assignment",), fused, images, every)
        check(FILES.facts, f"{name}.loss", losses["assignment"], FACTS[name]["loss"], atol=LOSS)
        if name == "draw0":
            check_gradients(FILES.tensors, task, losses["assignment"], TENSORS)
