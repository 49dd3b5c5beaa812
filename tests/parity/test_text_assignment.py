"""The recorded values of text assignment (tasks_more/nlvr_text_assignment)."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from x2kit_fusion import DoubledCross

from x2kit.model.x2vlm import image_context
from x2kit.objectives.text_assignment import place_images, similar_image_weights
from x2kit.plugin import VisionFeatures

from .evidence import check, check_equal
from .tasks_more import Files, features, recorded, task_model
from .test_two_images import GRADIENTS, LOSS, STATES, check_doubled, under

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


def test_losses_of_the_draws() -> None:
    task = task_model("xvlm", DoubledCross, built=("itc",))
    check_doubled(FILES.facts, "xvlm", task, FACTS | {"freshly_initialised": []})
    check_equal(
        FILES.facts,
        "freshly_initialised",
        sorted(FACTS["freshly_initialised"]),
        ["ta_head.bias", "ta_head.weight"],
    )
    head = under(TENSORS, "param.ta_head.")
    head = {name: value.requires_grad_() for name, value in head.items()}
    images = features("xvlm", task.model)
    images = VisionFeatures(*(part[TENSORS["in.image_rows"]] for part in images[:2]), images.grid)
    for name in [name for name in FACTS if name.startswith("draw")]:
        draw = under(TENSORS, f"{name}.")
        rows = torch.stack([draw["in.first_picture_of_text"], draw["in.second_picture_of_text"]], 1)
        mask = draw["in.text_atts"].bool()
        text = task.model.encode_texts(draw["in.text_ids"], mask)
        states = task.model.fuse(text, mask, image_context(images, rows))[:, 0]
        check(FILES.tensors, f"{name}.out.head_input", states, draw["out.head_input"], atol=STATES)
        logits = F.linear(states, head["weight"], head["bias"])
        check(FILES.tensors, f"{name}.out.logits", logits, draw["out.logits"], atol=STATES)
        loss = F.cross_entropy(logits, draw["in.labels"])
        check(FILES.facts, f"{name}.loss", loss, FACTS[name]["loss"], atol=LOSS)
        if name == "draw0":
            found = task.gradients(loss) | {f"ta_head.{part}": value.grad for part, value in head.items()}
            for tensor, value in under(TENSORS, "grad.").items():
                check(FILES.tensors, f"grad.{tensor}", found[tensor], value, atol=GRADIENTS, rtol=GRADIENTS)
            images = VisionFeatures(images.summary.detach(), images.patches.detach(), images.grid)
