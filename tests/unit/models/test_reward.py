"""VP-Score: neighbours do not change a score, its files bring it back, its first gradients are alive."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vp_ray.errors import CheckpointError, InputError
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore, new_head
from vp_ray.models.reward_config import VPScoreConfig
from vp_ray.protocols import Pixels
from vp_ray.records import ASPECTS

PROMPTS = ("a red circle", "a blue square left of a red circle on a white ground", "two small cats")


def pictures(count: int, side: int = 32) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip)).eval()


def test_an_image_scores_the_same_alone_and_in_a_batch(model: VPScore) -> None:
    images, prompts = pictures(70), [PROMPTS[row % 3] for row in range(70)]
    together = model.score(images, prompts)
    alone = np.concatenate([model.score(images[row : row + 1], prompts[row : row + 1]) for row in range(0, 70, 7)])
    assert together.shape == (70, 4)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together[::7], alone, atol=1e-5)


def test_the_score_depends_on_the_prompt_and_on_the_image(model: VPScore) -> None:
    image = pictures(2)
    scores = model.score(image[[0, 0, 1]], [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    assert np.abs(scores[0] - scores[2]).max() > 1e-4


def test_the_files_bring_back_the_same_scores_bitwise(model: VPScore, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = VPScore.from_pretrained(tmp_path)
    assert again.config == model.config
    assert not again.training
    np.testing.assert_array_equal(again.score(pictures(3), PROMPTS), model.score(pictures(3), PROMPTS))


def test_a_checkpoint_may_lie_on_any_filesystem_that_fsspec_knows(model: VPScore) -> None:
    model.save_pretrained("memory://checkpoints/vp-score")
    again = VPScore.from_pretrained("memory://checkpoints/vp-score")
    np.testing.assert_array_equal(again.score(pictures(2), PROMPTS[:2]), model.score(pictures(2), PROMPTS[:2]))


def imagerewards_head(width: int) -> nn.Sequential:
    """Five linear layers without activations, all drawn from N(0, 1 / (width + 1))."""
    widths = (width, 1024, 128, 64, 16, 1)
    layers = [nn.Linear(before, after) for before, after in itertools.pairwise(widths)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1 / (width + 1))
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def first_gradients(head: nn.Module, width: int) -> list[float]:
    """The mean size of each weight matrix's first gradient of a pairwise loss, for states of unit variance."""
    states = torch.randn(32, width, generator=torch.Generator().manual_seed(0))
    scores = head(states)[:, 0]
    nn.functional.softplus(scores[::2] - scores[1::2]).mean().backward()
    return [weight.grad.abs().mean().item() for weight in head.parameters() if weight.ndim == 2]


def test_first_gradients_live_where_imagerewards_vanish_below_adams_epsilon() -> None:
    torch.manual_seed(0)
    assert max(first_gradients(imagerewards_head(768), 768)[:3]) < 1e-7
    for widths in ((1024, 128, 64, 16), (64,)):
        preparation = Preparation(224)
        config = VPScoreConfig("blip", {}, preparation, 35, head_widths=widths)
        assert min(first_gradients(new_head(768, config), 768)) > 1e-4


def test_first_gradients_reach_the_lowest_layers_of_the_backbone(tiny_blip: Path) -> None:
    model = VPScore.from_backbone(str(tiny_blip), head_widths=(64, 32, 16))
    scores = model.raw_scores(pictures(8), [PROMPTS[0]] * 8)
    nn.functional.softplus(scores[::2] - scores[1::2]).mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    sizes = {name: gradient.abs().mean().item() for name, gradient in gradients.items() if gradient is not None}
    head = [size for name, size in sizes.items() if name.startswith("head") and name.endswith("weight")]
    assert len(head) == 4
    assert min(head) > 1e-5
    assert sizes["backbone.vision.encoder.layers.0.mlp.fc1.weight"] > 1e-7


def test_scores_are_normalised_and_overall_is_the_weighted_mean_of_raw_scores(model: VPScore, tiny_blip: Path) -> None:
    images, prompts = pictures(12), [PROMPTS[row % 3] for row in range(12)]
    weighted = VPScore.from_backbone(str(tiny_blip), overall_weights={"aesthetic": 3.0, "fidelity": 1.0})
    raw = weighted.score(images, prompts)
    overall = (3 * raw[:, 1] + raw[:, 2]) / 4
    np.testing.assert_allclose(weighted.overall(raw), overall, atol=1e-6)
    weighted.normalise_on(images, prompts, "12 random images")
    assert weighted.config.normalisation.measured_on == "12 random images"
    scores = weighted.score(images, prompts)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(weighted.overall(scores), (overall - overall.mean()) / overall.std(), atol=1e-4)


def test_freezing_seven_tenths_leaves_the_upper_layers_and_the_head(tiny_blip: Path) -> None:
    model = VPScore.from_backbone(str(tiny_blip))
    model.freeze(0.7)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for place in range(4):
        layers = (
            f"backbone.vision.encoder.layers.{place}.mlp.fc1.weight",
            f"backbone.text.encoder.layer.{place}.intermediate.dense.weight",
        )
        assert all((layer in frozen) == (place < 2) for layer in layers)
    assert {name for name, _ in model.named_parameters() if "embeddings" in name} <= frozen
    assert all(p.requires_grad for p in model.head.parameters())


def test_images_of_any_size_are_fitted(model: VPScore) -> None:
    red = np.zeros((1, 64, 96, 3), np.uint8)
    red[..., 0] = 214
    np.testing.assert_allclose(
        model.score(red, PROMPTS[:1]), model.score(np.ascontiguousarray(red[:, :32, :32]), PROMPTS[:1]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("images", "prompts", "problem"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), ["a", "b"], "float32"),
        (np.zeros((2, 32, 32), np.uint8), ["a", "b"], r"\(2, 32, 32\)"),
        (np.zeros((0, 32, 32, 3), np.uint8), [], "no image"),
        (np.zeros((2, 32, 32, 3), np.uint8), ["a"], "1 prompts do not fit 2 images"),
        (np.zeros((1, 32, 32, 3), np.uint8), [None], "NoneType"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model: VPScore, images: Pixels, prompts: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        model.score(images, prompts)


def test_a_long_prompt_is_cut_at_the_limit_and_counted(model: VPScore) -> None:
    words = " ".join(["red"] * 22)
    assert model.prompts_cut([words, words + " blue", "a red circle"]).tolist() == [False, True, False]
    scores = model.score(pictures(1)[[0, 0]], [words, words + " blue blue blue"])
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_broken_places_are_refused_by_name(tiny_blip: Path, model: VPScore, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        VPScore.from_backbone(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"nowhere: no VP-Score is there \(no config.json\)"):
        VPScore.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no VP-Score checkpoint"):
        VPScore.from_pretrained(tiny_blip)
    model.save_pretrained(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cut: no VP-Score can be read"):
        VPScore.from_pretrained(tmp_path / "cut")


def test_the_config_is_plain_json(model: VPScore, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["family"] == "blip"
    assert values["preparation"]["side"] == 32
    assert values["aspects"] == list(ASPECTS)
    assert values["normalisation"]["measured_on"] == "nothing: scores are raw"


def test_a_text_limit_of_its_own_is_kept_and_longer_ones_are_the_backbones(tiny_blip: Path, tmp_path: Path) -> None:
    words = " ".join(["red"] * 12)
    short = VPScore.from_backbone(str(tiny_blip), text_tokens=8)
    short.save_pretrained(tmp_path)
    again = VPScore.from_pretrained(tmp_path)
    assert again.reader.limit == 8
    assert again.prompts_cut([words, "a red circle", words]).tolist() == [True, False, True]
    assert VPScore.from_backbone(str(tiny_blip), text_tokens=1000).reader.limit == 24


def test_a_checkpoint_of_an_unknown_family_or_preparation_is_refused(model: VPScore, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    good = json.loads(file.read_text())
    file.write_text(json.dumps(good | {"family": "flava"}))
    with pytest.raises(CheckpointError, match="'flava' is not known"):
        VPScore.from_pretrained(tmp_path)
    file.write_text(json.dumps(good | {"preparation": good["preparation"] | {"fit": "stretch"}}))
    with pytest.raises(CheckpointError, match="stretch"):
        VPScore.from_pretrained(tmp_path)
