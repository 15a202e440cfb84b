"""Every published head of BLIP serves as a backbone, and so do CLIP and SigLIP; checkpoints say which they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BertTokenizer,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipModel,
    CLIPModel,
    SiglipModel,
)

from tests import tiny_models
from vp_ray.errors import CheckpointError
from vp_ray.models.backbones import backbone_preparation, load_backbone
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels
from vp_ray.shapeworld.backbone import new_blip, save_blip

PROMPTS = ["a red circle", "two blue squares on a white ground"]
HEADS = {
    BlipForImageTextRetrieval: "text_encoder",
    BlipForQuestionAnswering: "text_encoder",
    BlipForConditionalGeneration: "text_decoder.bert",
    BlipModel: "text_model",
}


def pictures(count: int = 2) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def duals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("duals")
    return {"clip": tiny_models.clip_model(folder), "siglip": tiny_models.siglip_model(folder)}


@pytest.mark.parametrize("architecture", HEADS, ids=lambda kind: kind.__name__)
def test_every_head_of_blip_gives_its_first_tokens_state_and_comes_back(
    architecture: type, tiny_blip: Path, tmp_path: Path
) -> None:
    tokenizer = BertTokenizer.from_pretrained(tiny_blip)
    torch.manual_seed(1)
    save_blip(architecture(new_blip(tokenizer).config), tokenizer, tmp_path / "blip")
    source = architecture.from_pretrained(tmp_path / "blip", dtype=torch.float32).eval()
    model = VPScore.from_backbone(str(tmp_path / "blip")).eval()
    tokens = model.reader.tokens(PROMPTS)
    pixels = model.preparation.pixel_values(pictures())
    with torch.no_grad():
        seen = source.vision_model(pixel_values=pixels).last_hidden_state
        states = source.get_submodule(HEADS[architecture])(
            input_ids=tokens.ids, attention_mask=tokens.mask, encoder_hidden_states=seen
        ).last_hidden_state
        torch.testing.assert_close(model.backbone(pixels, tokens.ids, tokens.mask), states[:, 0])
    assert tokens.ids[:, 0].tolist() == [tokenizer.cls_token_id] * 2
    model.save_pretrained(tmp_path / "checkpoint")
    again = VPScore.from_pretrained(tmp_path / "checkpoint")
    np.testing.assert_array_equal(again.score(pictures(), PROMPTS), model.score(pictures(), PROMPTS))


@pytest.mark.parametrize(("family", "architecture"), [("clip", CLIPModel), ("siglip", SiglipModel)])
def test_a_dual_encoder_joins_the_embeddings_of_transformers_and_their_product(
    duals: dict[str, Path], family: str, architecture: type
) -> None:
    model = VPScore.from_backbone(str(duals[family])).eval()
    source = architecture.from_pretrained(duals[family]).eval()
    tokens = model.reader.tokens(PROMPTS)
    pixels = model.preparation.pixel_values(pictures())
    with torch.no_grad():
        features = model.backbone(pixels, tokens.ids, tokens.mask)
        published = source(pixel_values=pixels, input_ids=tokens.ids, attention_mask=tokens.mask)
    width = published.image_embeds.shape[1]
    image, prompt, product = (part / width**0.5 for part in features.split(width, dim=1))
    torch.testing.assert_close(image, published.image_embeds)
    torch.testing.assert_close(prompt, published.text_embeds)
    cosine = (published.image_embeds * published.text_embeds).sum(dim=1)
    torch.testing.assert_close(product.sum(dim=1) / width**0.5, cosine)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_checkpoint_says_its_family_and_scores_the_same(duals: dict[str, Path], family: str, tmp_path: Path) -> None:
    model = VPScore.from_backbone(str(duals[family]), seed=3).eval()
    model.save_pretrained(tmp_path)
    again = VPScore.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.config.family == family
    np.testing.assert_array_equal(again.score(pictures(), PROMPTS), model.score(pictures(), PROMPTS))
    scores = again.score(pictures()[[0, 0]], PROMPTS)
    assert np.abs(scores[0] - scores[1]).max() > 1e-4


def test_siglip_reads_every_prompt_at_its_full_length(duals: dict[str, Path]) -> None:
    reader = VPScore.from_backbone(str(duals["siglip"])).reader
    tokens = reader.tokens(["a", "a red one"])
    assert tokens.ids.shape == (2, 12)
    assert tokens.mask.all()


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_freezing_half_a_dual_encoder_leaves_the_upper_layers_and_the_projections(
    duals: dict[str, Path], family: str
) -> None:
    model = VPScore.from_backbone(str(duals[family]))
    model.freeze(0.5)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for network in ("vision", "text"):
        assert f"backbone.{network}.encoder.layers.0.mlp.fc1.weight" in frozen
        assert f"backbone.{network}.encoder.layers.1.mlp.fc1.weight" not in frozen
        assert f"backbone.{network}.embeddings.position_embedding.weight" in frozen
    assert not any("projection" in name or name.startswith("head") for name in frozen)


def test_each_family_fits_pictures_as_it_was_published(duals: dict[str, Path], tiny_blip: Path) -> None:
    fits = {name: backbone_preparation(str(place)).fit for name, place in {**duals, "blip": tiny_blip}.items()}
    assert fits == {"clip": "crop_floor", "siglip": "squash", "blip": "crop"}
    assert backbone_preparation(str(tiny_blip)) == Preparation(32, (0.5,) * 3, (0.5,) * 3)


def test_a_picture_is_fitted_as_transformers_does(duals: dict[str, Path]) -> None:
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (75, 101, 3), dtype=np.uint8))
    for name, kind in (("clip", CLIPImageProcessorPil), ("siglip", SiglipImageProcessorPil)):
        published = kind.from_pretrained(duals[name])(images=picture, return_tensors="pt").pixel_values
        preparation = backbone_preparation(str(duals[name]))
        torch.testing.assert_close(
            preparation.pixel_values(preparation.fit_picture(picture)[None]), published, atol=1e-6, rtol=0
        )


def test_a_backbone_that_lacks_weights_is_refused(tiny_blip: Path, duals: dict[str, Path], tmp_path: Path) -> None:
    for place, lost in (
        (tiny_blip, "vision_model.post_layernorm.weight"),
        (duals["clip"], "text_model.final_layer_norm.bias"),
    ):
        folder = tmp_path / place.name
        folder.mkdir()
        for path in place.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        tensors = load_file(folder / "model.safetensors")
        del tensors[lost]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=lost):
            load_backbone(str(folder))


def test_a_network_that_is_no_backbone_is_refused_by_name(tmp_path: Path) -> None:
    tokenizer = tiny_models.clip_tokenizer(tmp_path)
    tiny_models.clip_text(tokenizer).save_pretrained(tmp_path / "text")
    with pytest.raises(CheckpointError, match="'clip_text_model' cannot be a backbone"):
        load_backbone(str(tmp_path / "text"))
