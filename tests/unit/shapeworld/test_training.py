from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from vp_ray.errors import InputError
from vp_ray.models.sources import resolve
from vp_ray.shapeworld.architectures import grammar_words, write_clip_tokenizer
from vp_ray.shapeworld.scenes import all_scenes, prompt_of, split_of
from vp_ray.shapeworld.training import ResumableLoop, SceneSampler, cosine_rate
from vp_ray.shapeworld.weights import train_weights


def nothing(part: str, step: int, steps: int, loss: float) -> None:
    pass


def test_no_training_scene_is_held_out() -> None:
    sampler, rng = SceneSampler(), np.random.default_rng(0)
    assert {split_of(sampler.draw(rng)) for _ in range(500)} == {"train"}


def test_the_rate_rises_to_its_peak_and_falls_to_a_hundredth() -> None:
    rates = [cosine_rate(step, 1000, 2e-3) for step in range(1001)]
    assert max(rates) == pytest.approx(2e-3)
    assert np.argmax(rates) in (99, 100)
    assert rates[-1] == pytest.approx(2e-5)


def test_the_tokenizer_gives_every_prompt_its_own_tokens_and_spells_unknown_words(tmp_path: Path) -> None:
    tokenizer = write_clip_tokenizer(tmp_path)
    prompts = [prompt_of(scene) for scene in all_scenes()]
    assert len({tuple(ids) for ids in tokenizer(prompts).input_ids}) == len(prompts)
    assert sum(len(tokenizer.tokenize(word)) == 1 for word in grammar_words()) > 0.8 * len(grammar_words())
    assert tokenizer.unk_token_id not in tokenizer("zebra über 42").input_ids[1:-1]


def test_a_training_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    def loop(folder: str) -> tuple[ResumableLoop, nn.Linear]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        return ResumableLoop("part", nn.ModuleDict({"m": model}), 7, 0.1, tmp_path / folder, checkpoint_every=2), model

    def loss_on(model: nn.Linear, fail_at: int | None = None) -> Callable[[int], torch.Tensor]:
        def loss_of_step(step: int) -> torch.Tensor:
            if step == fail_at:
                raise InterruptedError
            batch = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
            return (model(batch) - batch.sum(dim=1, keepdim=True)).square().mean()

        return loss_of_step

    whole, undisturbed = loop("whole")
    whole.run(loss_on(undisturbed), nothing)
    cut, first = loop("cut")
    with pytest.raises(InterruptedError):
        cut.run(loss_on(first, fail_at=5), nothing)
    resumed, second = loop("cut")
    assert resumed.step == 4
    resumed.run(loss_on(second), nothing)
    assert torch.equal(second.weight, undisturbed.weight)
    assert torch.equal(second.bias, undisturbed.bias)


def test_an_unknown_part_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'vast'.*weak, strong, blip"):
        train_weights(tmp_path, tmp_path / "work", 0, ["vast"], print)


def test_the_shipped_models_are_small_safetensors_that_diffusers_loads() -> None:
    folders = [Path(resolve(f"embedded:{name}")) for name in ("weak", "strong", "blip")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 12 * 2**20
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    for folder in folders[:2]:
        pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
        assert type(pipe) is StableDiffusionPipeline
