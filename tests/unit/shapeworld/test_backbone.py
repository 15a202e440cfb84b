"""The shipped BLIP knows, on held-out scenes, which of two captions a picture shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, BlipForImageTextRetrieval

from vp_ray.models.sources import resolve
from vp_ray.shapeworld.backbone_training import matching_logits
from vp_ray.shapeworld.captions import wrong_by_one_fact
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import Scene, all_scenes, prompt_of, split_of
from vp_ray.shapeworld.training import pixels_to_unit

PICTURES = 200

RightShare = Callable[[str], float]


@pytest.fixture(scope="module")
def right_share() -> RightShare:
    """The share of held-out pictures whose caption scores above one that is wrong by a fact of the given kind."""
    folder = resolve("embedded:blip")
    tokenizer = BertTokenizer.from_pretrained(folder)
    model = BlipForImageTextRetrieval.from_pretrained(folder, dtype=torch.float32).eval()

    def measure(kind: str) -> float:
        rng = np.random.default_rng(5)
        held_out = [scene for scene in all_scenes() if split_of(scene) == "held_out" and wrong_by_one_fact(scene)[kind]]
        scenes: list[Scene] = [held_out[int(place)] for place in rng.integers(len(held_out), size=PICTURES)]
        pictures = pixels_to_unit(np.stack([render(arrange(scene, rng)) for scene in scenes]))
        wrong = [changes[int(rng.integers(len(changes)))] for changes in (wrong_by_one_fact(s)[kind] for s in scenes)]
        captions = [prompt_of(scene) for scene in (*scenes, *wrong)]
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        with torch.inference_mode():
            seen = model.vision_model(pixel_values=pictures).last_hidden_state
            states = model.text_encoder(
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                encoder_hidden_states=torch.cat([seen, seen]),
            ).last_hidden_state
            right, other = matching_logits(model, states[:, 0]).chunk(2)
        return float((right > other).float().mean())

    return measure


@pytest.mark.parametrize("kind", ["colour", "shape", "size", "count", "binding", "relation", "ground"])
def test_a_caption_that_is_wrong_by_one_fact_is_told_from_the_right_one(right_share: RightShare, kind: str) -> None:
    assert right_share(kind) >= 0.95
