"""Frozen lower layers are worked out once, kept within a bound, and change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vp_ray.models.blip_text import first_token
from vp_ray.models.frozen_prefix import FrozenPrefix
from vp_ray.models.frozen_states import CachedPrefix, DiskStates, MemoryStates, NoStates, States
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels


def pictures(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def frozen(tiny_blip: Path, share: float = 0.5) -> VPScore:
    model = VPScore.from_backbone(str(tiny_blip)).eval()
    model.freeze(share)
    return model


def tokens(model: VPScore, count: int) -> tuple[Tensor, Tensor]:
    read = model.reader.tokens(["a red circle"] * count)
    return read.ids[read.rows], read.mask[read.rows]


def test_a_network_that_takes_the_prefixs_states_gives_the_scores_of_pixels_and_is_put_back(tiny_blip: Path) -> None:
    model = frozen(tiny_blip)
    values, read = model.preparation.pixel_values(pictures(3)), tokens(model, 3)
    names = list(model.state_dict())
    with torch.no_grad():
        expected = model(values, *read)
        prefix = FrozenPrefix.take_from(model.backbone.vision)
        assert prefix is not None
        assert len(prefix.stack) == 3  # embeddings and two of four layers
        assert not any(name.startswith("backbone.vision.encoder.layers.1.") for name in model.state_dict())
        assert torch.equal(model(prefix(values), *read), expected)
        prefix.put_back()
        assert torch.equal(model(values, *read), expected)
    assert list(model.state_dict()) == names


def test_a_network_with_trained_embeddings_has_no_prefix(tiny_blip: Path) -> None:
    assert FrozenPrefix.take_from(VPScore.from_backbone(str(tiny_blip)).backbone.vision) is None


def test_the_prefix_ignores_dropout_and_training_mode(tiny_blip: Path) -> None:
    model = frozen(tiny_blip)
    model.backbone.vision.encoder.layers[0].self_attn.dropout.p = 0.5
    model.train()
    prefix = FrozenPrefix.take_from(model.backbone.vision)
    assert prefix is not None
    model.train()
    values = model.preparation.pixel_values(pictures(2))
    assert torch.equal(prefix(values), prefix(values))
    assert not prefix(values).requires_grad


def test_the_fingerprint_knows_every_weight_and_every_setting(tiny_blip: Path) -> None:
    def fingerprint(change: str) -> str:
        vision = frozen(tiny_blip).backbone.vision
        if change == "weight":
            with torch.no_grad():
                vision.encoder.layers[1].layer_norm2.bias[3] += 1e-6
        if change == "setting":
            vision.config.layer_norm_eps *= 2
        prefix = FrozenPrefix.take_from(vision)
        assert prefix is not None
        return prefix.fingerprint

    assert fingerprint("") == fingerprint("")
    assert len({fingerprint(change) for change in ("", "weight", "setting")}) == 3


def cached(tiny_blip: Path, store: States) -> tuple[CachedPrefix, VPScore]:
    model = frozen(tiny_blip)
    prefix = FrozenPrefix.take_from(model.backbone.vision)
    assert prefix is not None
    return CachedPrefix(prefix, store), model


def test_a_block_is_worked_out_once_and_is_bitwise_the_same_whatever_else_is_asked_for(tiny_blip: Path) -> None:
    prefix, model = cached(tiny_blip, MemoryStates(1 << 24))
    prepare = model.preparation.pixel_values
    blocks = [pictures(4, seed) for seed in range(3)]
    first = prefix.states(blocks[:1], prepare)
    every = prefix.states(blocks, prepare)
    assert (prefix.asked, prefix.found) == (4, 1)
    assert torch.equal(every[:4], first)
    fresh, _ = cached(tiny_blip, NoStates())
    assert torch.equal(fresh.states(blocks, prepare), every)
    assert (fresh.asked, fresh.found) == (3, 0)
    changed = blocks[0].copy()
    changed[3, 31, 31, 2] ^= 1
    prefix.states([changed], prepare)
    assert (prefix.asked, prefix.found) == (5, 1)


def test_a_store_that_holds_half_finds_that_half_in_each_pass_and_never_grows(tiny_blip: Path) -> None:
    block = 4 * 65 * 64 * 4  # images, patches and class token, width, bytes
    store = MemoryStates(3 * block + block // 2)
    prefix, model = cached(tiny_blip, store)
    blocks = [pictures(4, seed) for seed in range(6)]
    rng = np.random.default_rng(0)
    for _ in range(4):
        for place in rng.permutation(6):
            prefix.states([blocks[place]], model.preparation.pixel_values)
    assert (prefix.asked, prefix.found) == (24, 9)
    assert store.left_bytes == block // 2


def test_ranks_share_states_on_disk_and_those_of_other_weights_are_removed(tiny_blip: Path, tmp_path: Path) -> None:
    old = tmp_path / "of-other-weights"
    old.mkdir()
    (old / "x.safetensors").write_bytes(b"x")
    fingerprint = cached(tiny_blip, NoStates())[0]._prefix.fingerprint
    limit = 2 * 70_000
    ranks = [cached(tiny_blip, DiskStates(tmp_path, fingerprint, limit, writers=2)) for _ in range(2)]
    assert not old.exists()
    prepare = ranks[0][1].preparation.pixel_values
    blocks = [pictures(4, seed) for seed in range(3)]
    made = [ranks[0][0].states([block], prepare) for block in blocks]
    assert len(list((tmp_path / fingerprint).iterdir())) == 1  # a rank writes no more than its half of the bound
    assert torch.equal(ranks[1][0].states(blocks, prepare), torch.cat(made))
    assert ranks[1][0].found == 1
    files = sorted((tmp_path / fingerprint).iterdir())
    assert len(files) == 2
    assert sum(path.stat().st_size for path in files) <= limit
    files[0].write_bytes(b"cut short")
    again = CachedPrefix(ranks[0][0]._prefix, DiskStates(tmp_path, fingerprint, limit))
    assert torch.equal(again.states(blocks, prepare), torch.cat(made))


@pytest.mark.parametrize("padded", [True, False])
def test_the_first_tokens_state_is_that_of_transformers(tiny_blip: Path, padded: bool) -> None:
    model = VPScore.from_backbone(str(tiny_blip))
    text, seen = model.backbone.text, torch.randn(2, 65, 64, generator=torch.Generator().manual_seed(0))
    prompts = ["a red circle", "a red circle left of a blue square" if padded else "a blue square"]
    read = model.reader.tokens(prompts)
    mask = read.mask if padded else torch.ones_like(read.mask)
    seen.requires_grad_()
    ours = first_token(text, seen, read.ids, mask)
    (our_slope,) = torch.autograd.grad(ours.square().sum(), seen)
    theirs = text(input_ids=read.ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state[:, 0]
    (their_slope,) = torch.autograd.grad(theirs.square().sum(), seen)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(our_slope, their_slope, atol=1e-5, rtol=1e-4)
