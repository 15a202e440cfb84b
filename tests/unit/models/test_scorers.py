"""Other people's scorers give what their published definitions give, on random weights of the true shapes.

Widths are the true ones. Depths are cut for time (ImageReward has 24 + 12 layers, ViT-L 24 + 12, ViT-H 32 + 24);
`tests/gpu/test_full_size_scorers.py` holds the same at full depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertTokenizer, CLIPTokenizer

from tests import published_scorers as published
from tests import tiny_models
from vp_ray.errors import CheckpointError, SettingsError
from vp_ray.models import weight_files
from vp_ray.models.open_clip_names import shape_of
from vp_ray.models.reward import VPScore
from vp_ray.models.scorers import SCORERS, load_scorer, scorer_name
from vp_ray.shapeworld.architectures import write_clip_tokenizer
from vp_ray.shapeworld.backbone import write_bert_tokenizer

PROMPT = "a red circle left of a blue square"
LONG = " ".join(["a red circle"] * 40)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (251, 340, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BertTokenizer]:
    folder = tmp_path_factory.mktemp("bert")
    return folder, write_bert_tokenizer(folder)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CLIPTokenizer]:
    folder = tmp_path_factory.mktemp("clip_words")
    return folder, write_clip_tokenizer(folder)


@pytest.fixture
def weights_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose large files are gone as soon as the test is over."""
    yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size > 2**20:
            path.unlink()


def ids_of(tokenizer: object, prompt: str, limit: int) -> list[int]:
    return tokenizer(prompt, truncation=True, max_length=limit).input_ids


def test_imagereward_is_its_published_definition(
    weights_folder: Path, picture: Image.Image, bert: tuple[Path, BertTokenizer]
) -> None:
    folder, tokenizer = bert
    weights = published.image_reward_weights(vision_layers=6, text_layers=4)
    torch.save(weights, weights_folder / "ImageReward.pt")
    scorer = load_scorer(f"imagereward:{weights_folder / 'ImageReward.pt'},tokenizer={folder}")
    scores = scorer.score_pictures([picture] * 2, [PROMPT, LONG])
    image = published.cropped(picture, "round")
    expected = [published.image_reward(weights, image, ids_of(tokenizer, prompt, 35)) for prompt in (PROMPT, LONG)]
    assert abs(expected[0] - expected[1]) > 1e-3
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-5)
    assert scorer.aspects == ("imagereward",)
    assert scorer.prompts_cut([PROMPT, LONG]).tolist() == [False, True]
    assert ids_of(tokenizer, LONG, 35)[0] == tokenizer.cls_token_id


@pytest.mark.parametrize(("kind", "layers"), [("hpsv2", (4, 4)), ("hpsv2.1", (1, 2))])
def test_hps_is_the_cosine_of_the_whole_picture(
    kind: str, layers: tuple[int, int], weights_folder: Path, picture: Image.Image, words: tuple[Path, CLIPTokenizer]
) -> None:
    folder, tokenizer = words
    shape = published.ClipShape(1280, 16, 14, 1024, 16, 1024, "gelu", words=len(tokenizer))
    weights = published.open_clip_weights(shape, *layers)
    file = weights_folder / {"hpsv2": "HPS_v2_compressed.pt", "hpsv2.1": "HPS_v2.1_compressed.pt"}[kind]
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, file)
    scorer = load_scorer(f"{kind}:{weights_folder},tokenizer={folder}")
    score = scorer.score_pictures([picture], [PROMPT])
    expected = published.open_clip_cosine(weights, shape, published.letterboxed(picture), ids_of(tokenizer, PROMPT, 77))
    np.testing.assert_allclose(score, [[expected]], atol=1e-5)
    assert scorer.overall(score) == score[:, 0]


def test_pickscore_is_the_scaled_cosine_under_either_library_s_names(
    weights_folder: Path, picture: Image.Image, words: tuple[Path, CLIPTokenizer]
) -> None:
    folder, tokenizer = words
    shape = published.ClipShape(1280, 16, 14, 1024, 16, 1024, "gelu", words=len(tokenizer))
    image, ids = published.cropped(picture, "floor"), ids_of(tokenizer, PROMPT, 77)
    theirs = published.transformers_clip_weights(shape, 2, 2)
    ours = published.open_clip_weights(shape, 2, 2, seed=1)
    model = weights_folder / "pickscore"
    tokenizer.save_pretrained(model)
    shape_of(theirs, "gelu", tokenizer.eos_token_id).save_pretrained(model)
    save_file(theirs, model / "model.safetensors", metadata={"format": "pt"})
    save_file(ours, weights_folder / "open_clip.safetensors")
    for spec, expected in (
        (f"pickscore:{model}", published.transformers_clip_cosine(theirs, shape, image, ids)),
        (
            f"pickscore:{weights_folder / 'open_clip.safetensors'},tokenizer={folder}",
            published.open_clip_cosine(ours, shape, image, ids),
        ),
    ):
        score = load_scorer(spec).score_pictures([picture], [PROMPT])
        np.testing.assert_allclose(score / 100, [[expected]], atol=1e-5)


def test_clip_score_is_a_hundred_cosines_and_never_negative(
    weights_folder: Path, picture: Image.Image, words: tuple[Path, CLIPTokenizer]
) -> None:
    folder, tokenizer = words
    shape = published.ClipShape(1024, 16, 14, 768, 12, 768, "quick_gelu", words=len(tokenizer))
    weights = published.open_clip_weights(shape, 2, 2)
    save_file(weights, weights_folder / "clip.safetensors")
    scorer = load_scorer(f"clip:{weights_folder / 'clip.safetensors'},tokenizer={folder}")
    image = published.cropped(picture, "floor")
    cosine = published.open_clip_cosine(weights, shape, image, ids_of(tokenizer, PROMPT, 77))
    for sign in (1.0, -1.0):
        with torch.no_grad():
            scorer.backbone.text_projection.weight.mul_(sign)
        score = scorer.score_pictures([picture], [PROMPT])
        np.testing.assert_allclose(score / 100, [[max(0.0, sign * cosine)]], atol=1e-5)
    assert abs(cosine) > 1e-3


def test_laions_predictor_reads_the_embedding_of_the_image_alone(
    weights_folder: Path, picture: Image.Image, words: tuple[Path, CLIPTokenizer]
) -> None:
    _, tokenizer = words
    shape = published.ClipShape(1024, 16, 14, 768, 12, 768, "quick_gelu", words=len(tokenizer))
    weights, head = published.open_clip_weights(shape, 3, 1), published.linear_head_weights(768)
    save_file(weights, weights_folder / "clip.safetensors")
    torch.save(head, weights_folder / "sac+logos+ava1-l14-linearMSE.pth")
    scorer = load_scorer(
        f"aesthetic:{weights_folder / 'sac+logos+ava1-l14-linearMSE.pth'},clip={weights_folder / 'clip.safetensors'}"
    )
    expected = published.linear_head(
        head, published.open_clip_image(weights, shape, published.cropped(picture, "round"))
    )
    scores = scorer.score_pictures([picture] * 2, [PROMPT, LONG])
    np.testing.assert_allclose(scores[:, 0], [expected] * 2, atol=1e-5)
    assert not scorer.prompts_cut([LONG]).any()


def test_pixels_in_floats_score_the_same_and_have_a_gradient(tmp_path: Path, picture: Image.Image) -> None:
    scorer = load_scorer(f"pickscore:{tiny_models.clip_model(tmp_path)}")
    small = np.asarray(picture.resize((32, 32)))
    pixels = (torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255).requires_grad_()
    score = scorer.score_pixels(pixels, [PROMPT])
    np.testing.assert_allclose(score.detach().numpy(), scorer.score(small[None], [PROMPT]), atol=1e-4)
    score.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().mean() > 0


def test_a_vp_score_is_named_by_its_kind_or_its_place_alone(tiny_blip: Path, tmp_path: Path) -> None:
    model = VPScore.from_backbone(str(tiny_blip), seed=4).eval()
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for place in (str(tmp_path / "vp"), "memory://named/vp-score"):
        model.save_pretrained(place)
        for spec in (place, f"vpscore:{place}", f"VPScore:{place}"):
            assert scorer_name(spec) == "vpscore"
            np.testing.assert_array_equal(
                load_scorer(spec).score(images, [PROMPT] * 2), model.score(images, [PROMPT] * 2)
            )


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("picscore:somewhere", "there is no scorer 'picscore'"),
        ("clip:", "KIND:PLACE"),
        ("clip:somewhere,tokenizer", "KIND:PLACE"),
        ("clip:somewhere,clip=there", "clip has no option 'clip'"),
        ("vpscore:somewhere,revision=1", "vpscore has no option 'revision'"),
    ],
)
def test_names_that_cannot_be_understood_are_refused(spec: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load_scorer(spec)
    assert len(SCORERS) == 7


def test_files_that_are_no_such_scorer_are_refused_by_name(
    tmp_path: Path, words: tuple[Path, CLIPTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = words
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, other)
    for spec, problem in (
        (f"imagereward:{other},tokenizer={folder}", "this is no ImageReward"),
        (f"hpsv2:{other},tokenizer={folder}", "no weights of a CLIP"),
        (f"aesthetic:{other}", "the head does not fit"),
        (f"pickscore:{tmp_path / 'nowhere.pt'},tokenizer={folder}", "nowhere.pt"),
        ("imagereward:someone/somewhere", "the hub gives no ImageReward.pt"),
        (f"hpsv2:{tmp_path},tokenizer={tmp_path / 'none'}", "tokenizer cannot be loaded"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            load_scorer(spec)
    monkeypatch.setattr(weight_files, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match="GiB; more than"):
        load_scorer(f"hpsv2:{other},tokenizer={folder}")


class Evil:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_a_file_that_holds_more_than_tensors_is_never_opened(tmp_path: Path, bert: tuple[Path, BertTokenizer]) -> None:
    torch.save({"blip.visual_encoder.pos_embed": Evil(tmp_path / "made")}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: the weights cannot be read"):
        load_scorer(f"imagereward:{tmp_path / 'evil.pt'},tokenizer={bert[0]}")
    assert not (tmp_path / "made").exists()


def test_a_file_that_lacks_a_weight_or_has_one_of_another_shape_is_refused(
    weights_folder: Path, bert: tuple[Path, BertTokenizer]
) -> None:
    weights = published.image_reward_weights(vision_layers=1, text_layers=1, words=200)
    lost = "blip.visual_encoder.blocks.0.attn.proj.bias"
    file = weights_folder / "cut.pt"
    torch.save({name: tensor for name, tensor in weights.items() if name != lost}, file)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\.self_attn\.projection\.bias"):
        load_scorer(f"imagereward:{file},tokenizer={bert[0]}")
    torch.save(weights | {lost: torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match="1 weights are of another shape"):
        load_scorer(f"imagereward:{file},tokenizer={bert[0]}")


def test_the_published_shapes_are_read_off_the_weights() -> None:
    for shape, heads in ((published.VIT_H, (16, 16)), (published.VIT_L, (16, 12))):
        small = published.transformers_clip_weights(shape, 1, 1)
        config = shape_of(small, shape.activation, 49407)
        assert (config.vision_config.num_attention_heads, config.text_config.num_attention_heads) == heads
        assert config.vision_config.image_size == 224
        assert config.text_config.vocab_size == 49408
        assert math.isclose(small["logit_scale"].exp(), 100, rel_tol=1e-5)
