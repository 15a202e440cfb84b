"""What must hold on a GPU; skipped, out loud, where there is none."""

import numpy as np
import pytest
import torch

from vp_ray.models.config import GeneratorSettings, LoraSettings
from vp_ray.models.generators import TextToImage
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.models.sampler import ImageRequest

pytestmark = pytest.mark.gpu


def test_the_same_requests_give_nearly_the_same_picture_on_cpu_and_gpu() -> None:
    requests = [ImageRequest("a red circle", 1, 1.0), ImageRequest("a blue square", 2, 4.0)]
    pictures = [
        TextToImage(GeneratorSettings(name="g", source="embedded:weak", steps=5, device=device)).draw(requests)
        for device in ("cpu", "cuda")
    ]
    for here, there in zip(*pictures, strict=True):
        assert np.abs(here.pixels.astype(int) - there.pixels.astype(int)).mean() < 1.0


def test_a_replay_on_the_gpu_gives_back_every_log_probability() -> None:
    policy = DiffusionPolicy.from_pretrained("embedded:weak", LoraSettings(), "float32", 0, "cuda")
    steps = policy.steps(5, 1.0)
    noise = torch.randn(4, 6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    trajectory = policy.sample(policy.embed(["a red circle"] * 4), noise, steps)
    for step in steps.stochastic.tolist():
        index = torch.full((4,), step, device="cuda")
        replayed = policy.log_prob(trajectory, index)
        assert torch.equal(replayed.detach(), trajectory.log_probs[:, step])
