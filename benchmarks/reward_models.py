"""VP-Scores of BLIP's shape with random weights, cut to fit two cores."""

import tempfile
from pathlib import Path

import torch
from transformers import BlipConfig, BlipForImageTextRetrieval

from vp_ray.models.reward import VPScore
from vp_ray.shapeworld.backbone import save_blip, write_bert_tokenizer

PROMPTS = (
    "a painting of an ocean with clouds and birds, day time, low depth field effect",
    "a red circle left of a blue square",
    "portrait of an old sailor, oil on canvas, dramatic light",
    "two green triangles on a white ground",
    "a city street at night in the rain, reflections, neon signs",
    "a bowl of fruit on a wooden table, soft morning light",
    "three yellow stars above a purple house",
    "a fox that reads a newspaper in a cafe",
)


def scorer(vision_layers: int, text_layers: int, width: int = 256, side: int = 224) -> VPScore:
    """A VP-Score in evaluation mode: patches of 16, 35 tokens, 4 aspects."""
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 64}
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = write_bert_tokenizer(Path(folder) / "words")
        text = shape | {"vocab_size": len(tokenizer), "num_hidden_layers": text_layers, "max_position_embeddings": 64}
        vision = shape | {"num_hidden_layers": vision_layers, "image_size": side, "patch_size": 16}
        config = BlipConfig(text_config=text, vision_config=vision)
        save_blip(BlipForImageTextRetrieval(config), tokenizer, Path(folder) / "blip")
        return VPScore.from_backbone(str(Path(folder) / "blip"), text_tokens=35).eval()
