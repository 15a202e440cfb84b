import pytest
import torch

from vp_ray.maths.nft import mixed_predictions, nft_loss, optimality, weighted_error


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_advantages_become_shares_of_good() -> None:
    assert optimality(values(-5.0, 0.0, 2.5, 9.0), 5.0).tolist() == [0.0, 0.5, 0.75, 1.0]


def test_one_image_by_hand() -> None:
    clean = values(0.0, 0.0)[None]
    positive, negative = values(1.0, -3.0)[None], values(2.0, 0.0)[None]
    # Mean squares 5 and 2 over mean sizes 2 and 1.
    assert weighted_error(positive, clean).tolist() == [2.5]
    assert nft_loss(positive, negative, clean, values(0.75), 0.5).item() == pytest.approx((0.75 * 2.5 + 0.25 * 2) / 0.5)


def test_a_policy_at_the_old_one_moves_towards_good_images_and_away_from_bad_ones() -> None:
    clean, old = values(1.0)[None], values(0.0)[None]
    slopes = []
    for share in (1.0, 0.5, 0.0):
        prediction = old.clone().requires_grad_()
        positive, negative = mixed_predictions(prediction, old, 0.4)
        nft_loss(positive, negative, clean, values(share), 0.4).backward()
        assert prediction.grad is not None
        slopes.append(prediction.grad.item())
    assert slopes[0] == -slopes[2] == -2.0
    assert slopes[1] == 0.0
