"""ImageReward and HPS v2 at their full size (446 and 986 million weights) are their published definitions.

Both are computed in float32 on the CPU of the machine with the GPU, which has the memory for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import published_scorers as published
from vp_ray.models.scorers import load_scorer
from vp_ray.shapeworld.architectures import write_clip_tokenizer
from vp_ray.shapeworld.backbone import write_bert_tokenizer

pytestmark = pytest.mark.gpu

PROMPT = "a red circle left of a blue square"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (251, 340, 3), dtype=np.uint8))


def test_imagereward_of_24_and_12_layers(tmp_path: Path, picture: Image.Image) -> None:
    tokenizer = write_bert_tokenizer(tmp_path / "words")
    weights = published.image_reward_weights()
    torch.save(weights, tmp_path / "ImageReward.pt")
    score = load_scorer(f"imagereward:{tmp_path},tokenizer={tmp_path / 'words'}").score_pictures([picture], [PROMPT])
    expected = published.image_reward(weights, published.cropped(picture, "round"), tokenizer(PROMPT).input_ids)
    np.testing.assert_allclose(score, [[expected]], atol=1e-5)


def test_hps_of_32_and_24_layers(tmp_path: Path, picture: Image.Image) -> None:
    tokenizer = write_clip_tokenizer(tmp_path / "words")
    weights = published.open_clip_weights(published.VIT_H, 32, 24)
    torch.save({"state_dict": weights}, tmp_path / "HPS_v2_compressed.pt")
    score = load_scorer(f"hpsv2:{tmp_path},tokenizer={tmp_path / 'words'}").score_pictures([picture], [PROMPT])
    ids = tokenizer(PROMPT).input_ids
    expected = published.open_clip_cosine(weights, published.VIT_H, published.letterboxed(picture), ids)
    np.testing.assert_allclose(score, [[expected]], atol=1e-5)
