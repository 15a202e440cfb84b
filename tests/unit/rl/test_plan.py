from collections import Counter
from pathlib import Path

import pytest
import torch

from vp_ray.errors import InputError, SettingsError
from vp_ray.maths.steps import Steps
from vp_ray.rl.config import RlSettings
from vp_ray.rl.plan import (
    batches_of_epoch,
    hold_back,
    image_seeds,
    micro_batches_per_update,
    prompts_of_epoch,
    share_of_rank,
    start_seeds,
    step_columns,
    trained_steps,
)

PROMPTS = [f"prompt {number}" for number in range(10)]


def settings_of(**changes: object) -> RlSettings:
    plain = {
        "generator": "x",
        "prompts_per_epoch": 4,
        "samples_per_prompt": 6,
        "batch_size": 3,
        "updates_per_epoch": 2,
        "steps": 5,
    }
    return RlSettings.load({**plain, **changes})


def steps_of(std: list[float]) -> Steps:
    table = torch.ones(len(std))
    return Steps(torch.arange(len(std)), table, table, torch.tensor(std), table, table)


def test_an_epoch_holds_every_sample_of_its_prompts_once() -> None:
    batches = batches_of_epoch(PROMPTS, 0, settings_of())
    images = Counter(image for batch in batches for image in zip(batch.prompts, batch.samples, strict=True))
    chosen = prompts_of_epoch(PROMPTS, 0, settings_of())
    assert images == Counter((prompt, sample) for prompt in chosen for sample in range(6))
    assert [batch.update for batch in batches] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert all(set(chosen) <= {p for b in batches if b.update == update for p in b.prompts} for update in (0, 1))


def test_all_prompts_have_their_turn_before_one_comes_again() -> None:
    passes = [
        prompts_of_epoch(PROMPTS, epoch, settings_of(prompts_per_epoch=5, samples_per_prompt=6)) for epoch in range(4)
    ]
    assert sorted(passes[0] + passes[1]) == sorted(passes[2] + passes[3]) == sorted(PROMPTS)
    assert passes[0] + passes[1] != passes[2] + passes[3]


def test_two_ranks_share_each_update_equally_and_draw_the_same_images_as_one() -> None:
    settings = settings_of()
    batches = batches_of_epoch(PROMPTS, 3, settings)
    shares = [share_of_rank(batches, rank, 2) for rank in (0, 1)]
    assert sorted(batch.number for share in shares for batch in share) == [batch.number for batch in batches]
    assert [Counter(batch.update for batch in share) for share in shares] == [Counter({0: 2, 1: 2})] * 2
    steps = steps_of([1.0] * 5)
    assert [micro_batches_per_update(settings, steps, ranks) for ranks in (1, 2, 4)] == [4 * 5, 2 * 5, 5]


def test_held_back_prompts_are_never_trained_on_and_do_not_depend_on_the_order() -> None:
    settings = settings_of(held_out_prompts=3)
    training, held = hold_back(PROMPTS, settings)
    assert (len(training), len(held)) == (7, 3)
    assert sorted(training + held) == sorted(PROMPTS)
    assert set(hold_back(PROMPTS[::-1], settings)[1]) == set(held)
    assert set(hold_back(PROMPTS, settings_of(held_out_prompts=3, seed=1))[1]) != set(held)
    with pytest.raises(InputError, match="all 10 training prompts would be held out"):
        hold_back(PROMPTS, settings_of(held_out_prompts=10))


def test_an_epoch_that_does_not_divide_is_refused_at_load_and_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"24\) must be a multiple of.*\(10\)"):
        settings_of(batch_size=5)
    with pytest.raises(SettingsError, match="24 images cannot be split over 3 ranks"):
        micro_batches_per_update(settings_of(), steps_of([1.0] * 5), 3)
    with pytest.raises(InputError, match="3 training prompts for 4"):
        prompts_of_epoch(PROMPTS[:3], 0, settings_of())


def test_seeds_differ_between_images_and_epochs_and_share_only_the_start_of_a_prompt() -> None:
    batches = batches_of_epoch(PROMPTS, 0, settings_of())
    seeds = [seed for epoch in (0, 1) for batch in batches for seed in image_seeds(settings_of(), epoch, batch)]
    assert len(set(seeds)) == len(seeds) == 48
    starts = {
        (prompt, seed)
        for b in batches
        for prompt, seed in zip(b.prompts, start_seeds(settings_of(), 0, b), strict=True)
    }
    assert len(starts) == 4


def test_steps_without_density_and_dropped_ones_are_never_trained() -> None:
    steps = steps_of([0.8, 0.0, 0.5, 0.4, 0.1])
    assert trained_steps(settings_of(), steps) == [0, 2, 3, 4]
    assert trained_steps(settings_of(drop_last_steps=2), steps) == [0, 2]
    with pytest.raises(SettingsError, match="no step is left"):
        trained_steps(settings_of(drop_last_steps=4), steps_of([0.0, 1.0, 1.0, 1.0, 1.0]))


def test_every_image_trains_each_chosen_step_once_in_an_order_of_its_own() -> None:
    steps = steps_of([0.8, 0.7, 0.5, 0.4, 0.0])
    batch = batches_of_epoch(PROMPTS, 0, settings_of(batch_size=12, prompts_per_epoch=4))[0]
    columns = step_columns(settings_of(), steps, 0, 0, batch)
    assert columns.shape == (4, 12)
    assert all(sorted(columns[:, image].tolist()) == [0, 1, 2, 3] for image in range(12))
    assert len({tuple(columns[:, image].tolist()) for image in range(12)}) > 3
    half = step_columns(settings_of(trained_steps_share=0.5), steps, 0, 0, batch)
    assert half.shape == (2, 12)
    assert (half[0] != half[1]).all()


def test_settings_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    for changes, words in (
        ({"statistics_window": 32, "advantage_scale": "epoch"}, "advantage_scale must be 'prompt'"),
        ({"held_out_prompts": 0}, "needs held_out_prompts"),
        ({"drop_last_steps": 5}, "must leave a step"),
        ({"workers": {"zero_stage": 3}}, "ZeRO 3"),
        ({"reward_weights": {"fidelity": 0.0}}, "at least one weight"),
        ({"rewards_weight": {}}, "did you mean 'reward_weights'"),
    ):
        with pytest.raises(SettingsError, match=words):
            settings_of(**changes)
