from __future__ import annotations

import torch

from x2kit.model.generation.left_to_right import reading_order


def test_without_inserted_masks_each_token_sees_itself_and_those_before() -> None:
    sees, positions = reading_order(torch.zeros(2, 3, dtype=torch.bool))
    assert sees[1].int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert positions.tolist() == [[0, 1, 2]] * 2


def test_an_inserted_mask_has_its_tokens_position_and_is_seen_by_itself_only() -> None:
    sees, positions = reading_order(torch.tensor([[False, True, False, True, False]]))
    assert positions.tolist() == [[0, 1, 1, 2, 2]]
    assert sees[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 1, 0, 1],
    ]
