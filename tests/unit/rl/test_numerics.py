"""What must hold exactly for every sampler, prediction type and guidance (ratios of 1, gradients, noise-free steps)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from vp_ray.models.config import GeneratorSettings, LoraSettings
from vp_ray.models.loading import load_pipeline
from vp_ray.models.policy import DiffusionPolicy, SamplerName, Trajectory, draw_noise
from vp_ray.rl.losses.ddpo import ddpo_loss
from vp_ray.rl.losses.flow_grpo import flow_grpo_loss
from vp_ray.rl.losses.interface import RATIO_DEVIATION, StepBatch
from vp_ray.rl.plan import trained_steps

from .conftest import settings_of

PROMPTS = ["a red circle", "two blue squares", "a red circle", "a large green triangle"]
STEPS = 4
SIZE = {"height": 16, "width": 16}

CASES: list[tuple[str, SamplerName, str, float]] = [
    ("sd", "ddim", "epsilon", 1.0),
    ("sd", "ddim", "v_prediction", 3.5),
    ("sd", "ddim", "sample", 1.0),
    ("sd", "euler_ancestral", "epsilon", 3.5),
    ("sd", "euler_ancestral", "v_prediction", 1.0),
    ("sdxl", "ddim", "epsilon", 3.5),
    ("sdxl", "euler_ancestral", "epsilon", 1.0),
    ("sd3", "flow_sde", "flow", 1.0),
    ("sd3", "flow_sde", "flow", 3.5),
    ("flux", "flow_sde", "flow", 3.5),
]
EVERY = pytest.mark.parametrize(("family", "sampler", "prediction", "guidance"), CASES)


def policy_of(place: Path, sampler: SamplerName, prediction: str) -> DiffusionPolicy:
    """A policy that has moved away from its start."""
    pipe: Any = load_pipeline(GeneratorSettings(name="p", source=str(place), device="cpu"))
    if prediction != "flow":
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=prediction)
    policy = DiffusionPolicy(pipe, LoraSettings(rank=2), sampler=sampler, size=(SIZE["height"], SIZE["width"]))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.denoiser.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return policy


def sampled(policy: DiffusionPolicy, guidance: float, eta: float = 1.0) -> Trajectory:
    noise = draw_noise(range(len(PROMPTS)), STEPS, policy.latent_shape)
    return policy.sample(policy.embed(PROMPTS, guidance), noise, policy.steps(STEPS, eta))


def gradient(policy: DiffusionPolicy, loss: Tensor) -> Tensor:
    parameters = [p for p in policy.denoiser.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([each.flatten() for each in found if each is not None])


@EVERY
def test_a_replay_gives_back_every_log_probability_bitwise_and_steps_of_std_0_have_none(
    model_at: Callable[[str], Path], family: str, sampler: SamplerName, prediction: str, guidance: float
) -> None:
    policy = policy_of(model_at(family), sampler, prediction)
    trajectory = sampled(policy, guidance)
    assert trajectory.latents.dtype == trajectory.log_probs.dtype == torch.float32
    kept = trained_steps(settings_of(model_at(family), steps=STEPS), trajectory.steps)
    assert (trajectory.steps.std[kept] > 0).all()
    silent = sorted(set(range(STEPS)) - set(trajectory.steps.stochastic.tolist()))
    # The last step ends without noise, unless the schedule's own end is noisy or the step is the flow's.
    ends_clean = sampler == "euler_ancestral" or (
        sampler == "ddim" and float(policy.pipe.scheduler.final_alpha_cumprod) == 1.0
    )
    assert silent == ([STEPS - 1] if ends_clean else [])
    assert trajectory.log_probs[:, silent].isnan().all()
    index = torch.tensor([kept[place % len(kept)] for place in range(len(PROMPTS))])
    sampled_log_probs = trajectory.log_probs.gather(1, index[:, None])[:, 0]
    for training in (False, True):
        for switch in (policy.denoiser.disable_gradient_checkpointing, policy.denoiser.enable_gradient_checkpointing):
            policy.denoiser.train(training)
            switch()
            assert torch.equal(policy.log_prob(trajectory, index), sampled_log_probs)


@EVERY
def test_at_ratio_1_the_gradient_is_minus_a_times_that_of_the_log_probability(
    model_at: Callable[[str], Path], family: str, sampler: SamplerName, prediction: str, guidance: float
) -> None:
    policy = policy_of(model_at(family), sampler, prediction)
    trajectory, index = sampled(policy, guidance), torch.tensor([0, 1, 2, 0])
    advantages = torch.tensor([1.0, -2.0, 0.5, -0.25])
    loss_of = flow_grpo_loss if sampler == "flow_sde" else ddpo_loss
    options = {} if sampler == "flow_sde" else {"step_weights": "equal"}
    settings = settings_of(
        model_at(family), algorithm="flow_grpo" if sampler == "flow_sde" else "ddpo", kl_coefficient=0.0, **options
    )
    loss, seen = loss_of(policy, StepBatch(trajectory, index, advantages), settings, False)
    assert seen[RATIO_DEVIATION] == 0
    whole = gradient(policy, loss)
    torch.testing.assert_close(whole, gradient(policy, -(advantages * policy.log_prob(trajectory, index)).mean()))
    assert whole.abs().max() > 0


@EVERY
def test_without_noise_it_draws_the_latents_that_diffusers_draws(
    model_at: Callable[[str], Path], family: str, sampler: SamplerName, prediction: str, guidance: float
) -> None:
    policy = policy_of(model_at(family), sampler, prediction)
    trajectory = sampled(policy, guidance, eta=0.0)
    assert trajectory.log_probs.isnan().all()
    pipe, noise = policy.pipe, draw_noise(range(len(PROMPTS)), STEPS, policy.latent_shape)[:, 0]
    if sampler == "euler_ancestral":
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    packed = family == "flux"
    if packed:
        noise = pipe._pack_latents(noise, *noise.shape)
    found = pipe(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=guidance, latents=noise, output_type="latent", **SIZE
    ).images
    if packed:
        found = pipe._unpack_latents(found, SIZE["height"], SIZE["width"], pipe.vae_scale_factor)
    assert (trajectory.final - found).abs().max() < 2e-5 * found.std()


def test_two_micro_batches_have_the_mean_gradient_of_the_batch(model_at: Callable[[str], Path]) -> None:
    policy = policy_of(model_at("sdxl"), "ddim", "epsilon")
    settings = settings_of(model_at("sdxl"), kl_coefficient=0.5)
    whole, index = sampled(policy, 3.5), torch.tensor([0, 1, 2, 1])
    advantages = torch.tensor([1.0, -2.0, 0.5, -0.25])
    losses = []
    for rows in (torch.arange(4), torch.tensor([0, 1]), torch.tensor([2, 3])):
        part = Trajectory(whole.latents[rows], whole.log_probs[rows], whole.prompted.rows(rows), whole.steps)
        batch = StepBatch(part, index[rows], advantages[rows])
        losses.append(gradient(policy, ddpo_loss(policy, batch, settings, False)[0]))
    torch.testing.assert_close((losses[1] + losses[2]) / 2, losses[0], rtol=1e-3, atol=1e-5 * losses[0].abs().max())


def test_a_window_has_noise_and_density_inside_alone(model_at: Callable[[str], Path]) -> None:
    policy = policy_of(model_at("sd3"), "flow_sde", "flow")
    noise = draw_noise(range(2), STEPS, policy.latent_shape)
    steps = policy.steps(STEPS, 0.7, (1, 2))
    trajectory = policy.sample(policy.embed(PROMPTS[:2]), noise, steps)
    assert trajectory.log_probs.isfinite()[0].tolist() == [False, True, True, False]
    plain = policy.sample(policy.embed(PROMPTS[:2]), noise, policy.steps(STEPS, 0.0))
    assert torch.equal(trajectory.latents[:, 1], plain.latents[:, 1])
    assert not torch.equal(trajectory.latents[:, 2], plain.latents[:, 2])


def test_a_prompt_is_read_once_alone_and_with_the_negative_of_its_family(model_at: Callable[[str], Path]) -> None:
    policy = policy_of(model_at("sdxl"), "ddim", "epsilon")
    one, many = policy.embed(PROMPTS[1:2], 2.0).conditions, policy.embed(PROMPTS, 2.0).conditions
    assert many.negative is not None
    for name, tensor in many.positive.items():
        assert torch.equal(tensor[1:2], one.positive[name])
        assert tensor.shape == many.negative[name].shape
    assert policy.embed(PROMPTS, 2.0).unguided.conditions.negative is None
    # SDXL's base reads zeros in place of an empty negative prompt.
    assert not many.negative["encoder_hidden_states"].any()
