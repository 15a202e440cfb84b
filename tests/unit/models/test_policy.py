import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from vp_ray.errors import CheckpointError, SettingsError
from vp_ray.models.config import GeneratorSettings, LoraSettings
from vp_ray.models.loading import load_pipeline
from vp_ray.models.policy import DiffusionPolicy, Trajectory, draw_noise

PROMPTS = ["a red circle", "two blue squares", "a red circle", "a large green triangle on a white ground"]


@pytest.fixture
def policy(tiny_pipeline: Path) -> DiffusionPolicy:
    """A policy that has moved away from its start."""
    policy = DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(rank=2))
    moved(policy)
    return policy


def moved(policy: DiffusionPolicy, size: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.denoiser.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size)


def sampled(policy: DiffusionPolicy, guidance_scale: float = 1.0, eta: float = 1.0) -> Trajectory:
    steps = policy.steps(5, eta)
    noise = draw_noise(range(len(PROMPTS)), 5, policy.latent_shape)
    return policy.sample(policy.embed(PROMPTS, guidance_scale), noise, steps)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_replay_with_the_same_weights_gives_ratio_exactly_1(
    policy: DiffusionPolicy, guidance_scale: float, training: bool, checkpointing: bool
) -> None:
    policy.denoiser.train(training)
    if checkpointing:
        policy.denoiser.enable_gradient_checkpointing()
    trajectory = sampled(policy, guidance_scale)
    for index in (torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 0, 2])):
        log_probs = policy.log_prob(trajectory, index)
        assert torch.equal(log_probs, trajectory.log_probs.gather(1, index[:, None])[:, 0])
        log_probs.sum().backward()


def test_checkpointing_changes_no_gradient(policy: DiffusionPolicy) -> None:
    trajectory, gradients = sampled(policy), []
    for switch in (policy.denoiser.disable_gradient_checkpointing, policy.denoiser.enable_gradient_checkpointing):
        switch()
        policy.denoiser.zero_grad()
        policy.log_prob(trajectory, torch.tensor([0, 1, 2, 4])).sum().backward()
        gradients.append([p.grad.clone() for p in policy.denoiser.parameters() if p.grad is not None])
    assert len(gradients[0]) > 30
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_blocks_replay_bitwise_what_they_sampled_and_compute_the_same(policy: DiffusionPolicy) -> None:
    plain = sampled(policy, 3.5)
    index = torch.tensor([0, 1, 2, 4])
    policy.log_prob(plain, index).sum().backward()
    wanted = torch.cat([p.grad.flatten() for p in policy.denoiser.parameters() if p.grad is not None])
    policy.denoiser.zero_grad()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    policy.compile()
    trajectory = sampled(policy, 3.5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not trajectory.latents.requires_grad
    torch.testing.assert_close(trajectory.latents, plain.latents, rtol=1e-4, atol=1e-4)
    log_probs = policy.log_prob(trajectory, index)
    assert torch.equal(log_probs, trajectory.log_probs.gather(1, index[:, None])[:, 0])
    log_probs.sum().backward()
    found = torch.cat([p.grad.flatten() for p in policy.denoiser.parameters() if p.grad is not None])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    with policy.at_start():  # the adapter is off in compiled code, too
        start = policy.log_prob(trajectory, index)
    assert (start != log_probs).all()


def test_changed_weights_change_the_ratio(policy: DiffusionPolicy) -> None:
    trajectory = sampled(policy)
    moved(policy)
    assert (policy.log_prob(trajectory, torch.tensor([0, 1, 2, 3])) != trajectory.log_probs.diagonal()).all()


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
def test_with_eta_0_it_draws_what_the_diffusers_pipeline_draws(policy: DiffusionPolicy, guidance_scale: float) -> None:
    trajectory = sampled(policy, guidance_scale, eta=0.0)
    policy.pipe.scheduler = DDIMScheduler.from_config(policy.pipe.scheduler.config)
    policy.pipe.set_progress_bar_config(disable=True)
    expected = policy.pipe(
        PROMPTS,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        latents=trajectory.latents[:, 0],
        output_type="np",
    ).images
    difference = np.abs(policy.decode(trajectory.final).astype(int) - np.rint(expected * 255).astype(int))
    assert difference.max() <= 1
    assert trajectory.log_probs.isnan().all()


def test_an_image_depends_on_its_seed_and_prompt_and_not_on_its_batch(policy: DiffusionPolicy) -> None:
    steps = policy.steps(5, 1.0)
    alone = policy.sample(policy.embed(PROMPTS[1:2]), draw_noise([1], 5, policy.latent_shape), steps)
    torch.testing.assert_close(alone.latents[0], sampled(policy).latents[1], rtol=1e-4, atol=1e-4)


def test_the_steps_without_density_have_no_log_probability(policy: DiffusionPolicy) -> None:
    policy.pipe.scheduler.final_alpha_cumprod = torch.tensor(1.0)
    trajectory = sampled(policy)
    assert trajectory.steps.stochastic.tolist() == [0, 1, 2, 3]
    assert trajectory.log_probs[:, :4].isfinite().all()
    assert trajectory.log_probs[:, 4].isnan().all()


def test_at_the_start_it_is_the_untrained_model_bitwise(policy: DiffusionPolicy, tiny_pipeline: Path) -> None:
    trajectory, index = sampled(policy), torch.tensor([0, 1, 2, 3])
    untrained = load_pipeline(GeneratorSettings(name="untrained", source=str(tiny_pipeline))).unet
    with torch.no_grad():
        with policy.at_start():
            start, _ = policy.replay(trajectory, index)
        now, _ = policy.replay(trajectory, index)
        policy.network = untrained
        expected, _ = policy.replay(trajectory, index)
    assert torch.equal(start, expected)
    assert not torch.equal(start, now)


def test_the_saved_adapter_loads_into_a_pipeline_that_predicts_the_same(
    policy: DiffusionPolicy, tiny_pipeline: Path, tmp_path: Path
) -> None:
    policy.save_adapter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_pipeline, local_files_only=True)
    pipe.load_lora_weights(tmp_path)
    latents, states = (
        torch.randn(2, *policy.latent_shape),
        policy.embed(PROMPTS[:2]).conditions.positive["encoder_hidden_states"],
    )
    with torch.no_grad():
        expected = policy.denoiser(latents, 500, states).sample
        # The pipeline adds its adapter to the outputs, the policy to the weights.
        torch.testing.assert_close(pipe.unet(latents, 500, states).sample, expected, rtol=1e-5, atol=1e-6)


def test_the_adapter_starts_at_nothing_and_depends_on_its_seed_alone(tiny_pipeline: Path) -> None:
    torch.manual_seed(1)
    one = DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(), seed=3)
    torch.manual_seed(2)
    two = DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(), seed=3)
    other = DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(), seed=4)
    trainable = [{n: p for n, p in x.denoiser.named_parameters() if p.requires_grad} for x in (one, two, other)]
    assert all("lora" in name for name in trainable[0])
    assert all(torch.equal(weight, trainable[1][name]) for name, weight in trainable[0].items())
    assert not all(torch.equal(weight, trainable[2][name]) for name, weight in trainable[0].items())
    assert all(not weight.any() for name, weight in trainable[0].items() if "lora_B" in name)


def test_half_precision_weights_keep_trajectory_and_adapter_in_float32(tiny_pipeline: Path) -> None:
    policy = DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(), dtype="bfloat16")
    moved(policy)
    trajectory, index = sampled(policy), torch.tensor([0, 1, 2, 3])
    assert trajectory.latents.dtype == trajectory.log_probs.dtype == torch.float32
    assert {p.dtype for p in policy.denoiser.parameters() if p.requires_grad} == {torch.float32}
    assert policy.denoiser.conv_in.weight.dtype == torch.bfloat16
    assert torch.equal(policy.log_prob(trajectory, index), trajectory.log_probs.diagonal())


def test_a_source_that_cannot_be_trained_is_refused_with_the_remedy(tmp_path: Path, tiny_pipeline: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        DiffusionPolicy.from_pretrained(str(tmp_path), LoraSettings())
    with pytest.raises(SettingsError, match=r"lora\.layers"):
        DiffusionPolicy.from_pretrained(str(tiny_pipeline), LoraSettings(layers=("no_such_layer",)))
