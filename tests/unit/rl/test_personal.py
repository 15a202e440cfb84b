"""Two users of opposite tastes: what they like is learnt from their choices, and each gets an adapter of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.reward.conftest import write_run
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.errors import InputError, SettingsError
from vp_ray.models.personal import PersonalScore
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.models.reward import VPScore
from vp_ray.models.rewards import JoinedRewards, LocalRewards
from vp_ray.records import COMPARISONS
from vp_ray.rl import personal
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.rl.reward_config import PersonalSettings
from vp_ray.storage import Folder, RunFolder

from .conftest import HELD_OUT, PROMPTS, settings_of
from .test_loop import latents_as_pixels

TASTES = {"bright": 1, "dark": -1}


def choices_of(prompts: int) -> pa.Table:
    """Of each pair of a prompt's images `bright` takes the brighter and `dark` the darker; one abstains."""
    rows: list[dict[str, Any]] = []
    for prompt in range(prompts):
        for a in range(4):
            for b in range(a + 1, 4):
                margin = (a + prompt) % 4 - (b + prompt) % 4
                same = {"prompt_id": f"prompt-{prompt:03d}", "aspect": "overall", "answered_at": None}
                same |= {"image_id_a": f"image-{prompt:03d}-{a}", "image_id_b": f"image-{prompt:03d}-{b}"}
                rows += [
                    {"rater": user, "preferred_a": float(sign * margin > 0), **same} for user, sign in TASTES.items()
                ]
                rows.append({"rater": "silent", "preferred_a": None, **same})
    return pa.Table.from_pylist(rows, schema=COMPARISONS)


@pytest.fixture(scope="module")
def run(tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("tastes")
    made = write_run(folder, 24)
    VPScore.from_backbone(str(tiny_blip)).save_pretrained((made.stage("reward") / "checkpoint").uri)
    pq.write_table(choices_of(24), folder / "choices.parquet")
    return made


def settings_for(run: RunFolder, user: str, file: str = "choices.parquet") -> PersonalSettings:
    return PersonalSettings(user=user, comparisons=f"{run.uri}/{file}")


def test_a_taste_is_learnt_once_and_foretells_choices_on_prompts_that_were_kept_out(run: RunFolder) -> None:
    told = personal.learn(settings_for(run, "dark"), run, 0)
    assert told["accuracy"] > 0.9
    assert {key: told[key] for key in ("user", "users", "choices")} == {"user": "dark", "users": 2, "choices": 144}
    assert personal.learn(settings_for(run, "dark", "gone.parquet"), run, 0) == told


@pytest.mark.parametrize(
    ("user", "prompts", "words"),
    [
        ("silent", 2, "the user 'silent' has made no choice. Users are: bright, dark"),
        ("dark", 3, "4 images that users chose between are not in this run, the first is image-002-0"),
        ("dark", 0, "the comparisons cannot be read"),
    ],
)
def test_a_user_or_an_image_that_is_not_there_is_named(
    user: str, prompts: int, words: str, tiny_blip: Path, tmp_path: Path
) -> None:
    made = write_run(tmp_path, 2)
    VPScore.from_backbone(str(tiny_blip)).save_pretrained((made.stage("reward") / "checkpoint").uri)
    if prompts:
        pq.write_table(choices_of(prompts), tmp_path / "choices.parquet")
    with pytest.raises(InputError, match=words):
        personal.learn(settings_for(made, user), made, 0)


def test_a_user_without_a_weight_would_have_no_effect() -> None:
    with pytest.raises(SettingsError, match=r"no effect without a weight of 'user\.preference'"):
        settings_of("nowhere", personal={"user": "dark"})


def brightness_by_prompt(policy: DiffusionPolicy) -> np.ndarray:
    """Mean brightness of four images of each held-out prompt, drawn without noise between steps."""
    steps = policy.steps(3, 0.0)
    means = []
    for prompt in HELD_OUT:
        drawn = policy.sample(policy.embed([prompt] * 4), draw_noise(range(4), 3, policy.latent_shape), steps)
        means.append(policy.decode(drawn.final).mean())
    return np.array(means)


def test_each_user_prefers_their_own_adapter_on_held_out_prompts(
    run: RunFolder, tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionPolicy, "decode", latents_as_pixels)
    personal.learn(settings_for(run, "dark"), run, 0)
    shared = VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri)
    found = {}
    for user in TASTES:
        settings = settings_of(
            tiny_pipeline, epochs=6, prompts_per_epoch=4, samples_per_prompt=16, batch_size=32, held_out_prompts=0,
            optimizer={"learning_rate": 0.03}, lora={"rank": 2, "alpha": 2, "layers": ["conv_out"]}, keep="last",
            personal={"user": user}, reward_weights={"fidelity": 0.1, "user.preference": 1.0},
        )  # fmt: skip
        policy = DiffusionPolicy.from_pretrained(settings.generator, settings.lora)
        before = brightness_by_prompt(policy)
        taste = PersonalScore.from_pretrained(run.stage("rl") / personal.FOLDER, user, shared)
        train(
            settings,
            policy,
            TorchEngine(
                policy.denoiser,
                settings.optimizer,
                micro_batches_per_update(settings, policy.steps(3, settings.eta), 1),
            ),
            rewards=JoinedRewards({"": LocalRewards(shared), "user": LocalRewards(taste)}),
            held_out=None,
            collective=SingleProcess(),
            prompts=PROMPTS,
            folder=Folder.at(tmp_path / user),
        )
        found[user] = brightness_by_prompt(policy)
    assert (found["bright"] > before).all()
    assert (found["dark"] < before).all()
