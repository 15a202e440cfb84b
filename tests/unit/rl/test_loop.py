import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.errors import NumericsError, RewardError, SettingsError
from vp_ray.local_copies import to_read
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.loading import load_pipeline
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import ImageEncoder, Pixels, Scores
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.storage import Folder

from .conftest import HELD_OUT, PROMPTS, Rewards, numbers_of, rows_of, settings_of


class CutError(Exception):
    """The process ends here."""


def trained(
    generator: Path,
    folder: Path | str,
    rewards: Rewards | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    encoder: ImageEncoder | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The figures of a training with everything made anew, as in a fresh process."""
    settings = settings_of(generator, **changes)
    policy = DiffusionPolicy.from_pretrained(settings.generator, settings.lora, settings.dtype, settings.seed)
    count = micro_batches_per_update(settings, policy.steps(settings.steps, settings.eta), 1)
    source = rewards or Rewards()
    return train(
        settings,
        policy,
        TorchEngine(policy.denoiser, settings.optimizer, count),
        rewards=source,
        held_out=HeldOut(HELD_OUT, source, encoder) if settings.held_out_prompts else None,
        collective=SingleProcess(),
        prompts=PROMPTS,
        folder=Folder.at(folder),
        interrupted=interrupted,
    )


def adapter_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter" / "pytorch_lora_weights.safetensors")


def cut_at(request: int) -> Rewards:
    def on_result(number: int, scores: Scores) -> Scores:
        if number == request:
            raise CutError
        return scores

    return Rewards(on_result)


def test_a_training_that_was_cut_off_goes_on_bitwise_as_if_it_had_not_been(tiny_pipeline: Path, tmp_path: Path) -> None:
    options = {"statistics_window": 8, "inner_epochs": 2, "keep": "last"}
    trained(tiny_pipeline, tmp_path / "whole", **options)
    with pytest.raises(CutError):
        trained(tiny_pipeline, tmp_path / "cut", cut_at(9), **options)
    assert [row["epoch"] for row in rows_of(tmp_path / "cut")] == [0, 1, 2, 3]
    assert Folder.at(tmp_path / "cut" / "checkpoints").folders() == ["epoch_002"]
    rewards = Rewards()
    trained(tiny_pipeline, tmp_path / "cut", rewards, **options)
    assert rewards.requests == 2 * 2 + 1
    assert numbers_of(tmp_path / "cut") == numbers_of(tmp_path / "whole")
    whole, cut = adapter_of(tmp_path / "whole"), adapter_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert any(weight.any() for name, weight in whole.items() if "lora_B" in name or "lora.up" in name)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_on_s3_that_was_cut_off_goes_on_and_ends_as_one_on_a_disk_bitwise(
    tiny_pipeline: Path, tmp_path: Path, bucket: str, keep: str
) -> None:
    place = Folder.at(f"{bucket}/{keep}")
    trained(tiny_pipeline, tmp_path, keep=keep)
    with pytest.raises(CutError):
        trained(tiny_pipeline, place.uri, cut_at(7), keep=keep)
    rewards = Rewards()
    trained(tiny_pipeline, place.uri, rewards, keep=keep)
    assert rewards.requests == 2 * 2 + 1
    numbers = [json.loads(line) for line in place.read_bytes("metrics.jsonl").splitlines()]
    assert [{key: row[key] for key in row if "seconds" not in key} for row in numbers] == numbers_of(tmp_path)
    assert place.read_bytes("grids/epoch_004.png") == (tmp_path / "grids/epoch_004.png").read_bytes()
    with to_read(place / "adapter") as path:
        ours, theirs = load_file(path / "pytorch_lora_weights.safetensors"), adapter_of(tmp_path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    drawn = [
        load_pipeline(GeneratorSettings(name="tuned", source=str(tiny_pipeline), adapter=adapter)).unet.state_dict()
        for adapter in ((place / "adapter").uri, str(tmp_path / "adapter"))
    ]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[1])
    assert any("lora" in name for name in drawn[0])


def test_a_checkpoint_without_its_last_file_does_not_count(tiny_pipeline: Path, tmp_path: Path) -> None:
    trained(tiny_pipeline, tmp_path / "whole")
    trained(tiny_pipeline, tmp_path / "torn")
    (tmp_path / "torn" / "checkpoints" / "epoch_004" / "state.json").unlink()
    rewards = Rewards()
    trained(tiny_pipeline, tmp_path / "torn", rewards)
    assert rewards.requests == 2 * 2 + 1
    assert numbers_of(tmp_path / "torn") == numbers_of(tmp_path / "whole")


def test_a_finished_training_draws_nothing_more_and_keeps_two_checkpoints(tiny_pipeline: Path, tmp_path: Path) -> None:
    figures = trained(tiny_pipeline, tmp_path, checkpoint_every=1)
    assert Folder.at(tmp_path / "checkpoints").folders() == ["epoch_003", "epoch_004"]
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == [
        f"epoch_{epoch:03d}.png" for epoch in (0, 2, 4)
    ]
    rewards = Rewards()
    assert trained(tiny_pipeline, tmp_path, rewards, checkpoint_every=1) == figures
    assert rewards.requests == 0


def test_every_row_of_an_epoch_has_every_figure(tiny_pipeline: Path, tmp_path: Path) -> None:
    figures = trained(tiny_pipeline, tmp_path)
    first, *epochs = rows_of(tmp_path)
    scored = {"held_out_score", "held_out_standard_error", "held_out_brightness", "held_out_contrast"}
    assert set(first) == {"epoch", "update", *scored}
    for row in epochs:
        assert set(row) >= {
            "epoch", "update", "reward_mean", "reward_std", "reward_standard_error", "brightness_mean", "contrast_mean",
            "ratio_mean", "clip_share_high", "clip_share_low", "kl", "gradient_norm", "zero_variance_share",
            "held_out_score", "seconds_sampling", "seconds_reward_wait", "seconds_update",
        }  # fmt: skip
        assert row["reward_mean"] == pytest.approx(row["brightness_mean"], rel=1e-6)
        assert abs(row["ratio_mean"] - 1) < 0.1
    assert [row["held_out_score"] is None for row in epochs] == [True, False, True, False]
    assert epochs[1]["held_out_score"] == pytest.approx(epochs[1]["held_out_contrast"])
    assert (figures["epochs"], figures["updates"], figures["images"]) == (4, 8, 32)


def test_rewards_that_stay_out_stop_training_after_a_checkpoint(tiny_pipeline: Path, tmp_path: Path) -> None:
    def out_from_epoch_4(number: int, scores: Scores) -> Scores:
        if number >= 8:
            raise RewardError("the service does not answer")
        return scores

    trained(tiny_pipeline, tmp_path / "whole")
    with pytest.raises(RewardError, match="does not answer"):
        trained(tiny_pipeline, tmp_path / "out", Rewards(out_from_epoch_4))
    assert (tmp_path / "out" / "checkpoints" / "epoch_003" / "state.json").exists()
    trained(tiny_pipeline, tmp_path / "out")
    assert numbers_of(tmp_path / "out") == numbers_of(tmp_path / "whole")


def test_while_a_machine_is_about_to_go_every_epoch_ends_with_a_checkpoint(tiny_pipeline: Path, tmp_path: Path) -> None:
    noticed = iter([False, True, True])
    with pytest.raises(CutError):
        trained(tiny_pipeline, tmp_path, cut_at(9), lambda: next(noticed), checkpoint_every=4)
    assert Folder.at(tmp_path / "checkpoints").folders() == ["epoch_002", "epoch_003"]


def test_a_constraint_goes_on_with_its_multiplier_and_is_told(tiny_pipeline: Path, tmp_path: Path) -> None:
    options = {
        "constraints": {"contrast": {"at_least": 1000.0, "rate": 0.001}}, "keep": "last", "held_out_prompts": 0,
        "advantage_mixing": "advantage", "statistics_window": 8,
    }  # fmt: skip
    trained(tiny_pipeline, tmp_path / "whole", **options)
    with pytest.raises(CutError):
        trained(tiny_pipeline, tmp_path / "cut", cut_at(6), **options)
    trained(tiny_pipeline, tmp_path / "cut", **options)
    assert numbers_of(tmp_path / "cut") == numbers_of(tmp_path / "whole")
    rows = rows_of(tmp_path / "whole")[1:]
    multipliers = [row["multiplier_contrast"] for row in rows]
    assert multipliers[0] == 0
    for before, after, row in zip(multipliers, multipliers[1:], rows, strict=False):
        assert after == pytest.approx(before + 0.001 * (1000 - row["contrast_mean"]))


def test_a_reward_that_is_not_a_number_is_never_learnt_from(tiny_pipeline: Path, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="brightness of image 0"):
        trained(tiny_pipeline, tmp_path, Rewards(lambda _, scores: scores * np.nan), held_out_prompts=0, keep="last")
    assert [row["epoch"] for row in rows_of(tmp_path)] == [0]


def latents_as_pixels(policy: DiffusionPolicy, latents: Tensor) -> Pixels:
    """An untrained VAE shows nothing of its latents; this shows three of their channels."""
    return (latents[:, :3] * 32 + 128).clamp(0, 255).permute(0, 2, 3, 1).byte().numpy()


def test_steps_weighted_by_variance_learn_the_reward_and_a_penalty_holds_the_policy_at_its_start(
    tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With equal weights the same 16 updates move the reward by a tenth of its spread."""
    monkeypatch.setattr(DiffusionPolicy, "decode", latents_as_pixels)
    options = {
        "epochs": 8, "prompts_per_epoch": 4, "samples_per_prompt": 16, "batch_size": 32,
        "optimizer": {"learning_rate": 0.03}, "lora": {"rank": 2, "alpha": 2, "layers": ["conv_out"]},
        "held_out_prompts": 0, "keep": "last",
    }  # fmt: skip
    free = trained(tiny_pipeline, tmp_path / "free", kl_coefficient=0.0, **options)
    assert free["reward_last"] - free["reward_first"] > rows_of(tmp_path / "free")[1]["reward_std"]
    held = trained(tiny_pipeline, tmp_path / "held", kl_coefficient=1.0, **options)
    assert held["kl_last"] < 0.05 * free["kl_last"]


def test_the_adapter_is_that_of_the_best_held_out_score(tiny_pipeline: Path, tmp_path: Path) -> None:
    figures = trained(tiny_pipeline, tmp_path / "best", held_out_weights={"brightness": -1.0}, evaluate_every=1)
    assert figures["best_epoch"] < 4
    upto = trained(
        tiny_pipeline, tmp_path / "upto", epochs=figures["best_epoch"], evaluate_every=1, keep="last",
        held_out_weights={"brightness": -1.0},
    )  # fmt: skip
    assert upto["held_out_last"] == figures["held_out_best"]
    best, last = adapter_of(tmp_path / "best"), adapter_of(tmp_path / "upto")
    assert all(torch.equal(best[name], last[name]) for name in best)


def test_training_ends_early_and_stays_ended(
    tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held-out score is the reward's opposite, so it falls as the reward rises."""
    monkeypatch.setattr(DiffusionPolicy, "decode", latents_as_pixels)
    options = {
        "epochs": 20, "evaluate_every": 1, "early_stop_patience": 2, "early_stop_tolerance": 0.0,
        "held_out_weights": {"brightness": -1.0}, "prompts_per_epoch": 4, "samples_per_prompt": 16, "batch_size": 32,
        "optimizer": {"learning_rate": 0.03}, "lora": {"rank": 2, "alpha": 2, "layers": ["conv_out"]},
    }  # fmt: skip
    figures = trained(tiny_pipeline, tmp_path, **options)
    assert figures["stopped_early"]
    assert figures["epochs"] < 20
    assert trained(tiny_pipeline, tmp_path, **options) == figures


def test_a_module_that_trains_otherwise_than_it_samples_is_noticed(tiny_pipeline: Path, tmp_path: Path) -> None:
    settings = settings_of(tiny_pipeline, held_out_prompts=0, keep="last")
    policy = DiffusionPolicy.from_pretrained(settings.generator, settings.lora)
    policy.denoiser.mid_block.resnets[0].dropout.p = 0.3
    policy.denoiser.train()
    with pytest.raises(NumericsError, match="before the first update a ratio differs from 1"):
        train(
            settings,
            policy,
            TorchEngine(policy.denoiser, settings.optimizer, 3),
            rewards=Rewards(),
            held_out=None,
            collective=SingleProcess(),
            prompts=PROMPTS,
            folder=Folder.at(tmp_path),
        )


class Pixel:
    """An image's features are its pixels."""

    def features(self, images: Pixels) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)


def test_a_training_whose_images_grow_alike_ends_with_the_weights_from_before(
    tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second epoch on all pictures are the same."""
    decode = DiffusionPolicy.decode
    epochs = iter(range(100))

    def decoded(policy: DiffusionPolicy, latents: Tensor) -> Pixels:
        images = decode(policy, latents)
        return images if next(epochs) < 5 else np.zeros_like(images)

    monkeypatch.setattr(DiffusionPolicy, "decode", decoded)
    figures = trained(
        tiny_pipeline, tmp_path, encoder=Pixel(), epochs=6, evaluate_every=1, early_stop_patience=2,
        held_out_weights={"brightness": -1.0},
    )  # fmt: skip
    rows = rows_of(tmp_path)
    assert [row["diversity"] > 0 for row in rows] == [True, True, False, False]
    assert figures["stopped_early"]
    assert figures["best_epoch"] <= 1


def test_an_aspect_that_the_scorer_lacks_is_refused_before_anything_is_drawn(
    tiny_pipeline: Path, tmp_path: Path
) -> None:
    rewards = Rewards()
    with pytest.raises(SettingsError, match=r"no aspect 'beauty'.*brightness, contrast"):
        trained(tiny_pipeline, tmp_path, rewards, reward_weights={"beauty": 1.0})
    assert rewards.requests == 0
