"""Every group has its turn, ranks and micro-batches share an update, and a group's loss is its pairs' mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vp_ray.maths.bradley_terry import pair_loss
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.reward.data import Group, RewardData, read_data
from vp_ray.reward.forward import Forward
from vp_ray.reward.step import deal, group_loss, groups_of_update
from vp_ray.storage import RunFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, bright_run: Callable[..., RunFolder]) -> RewardData:
    return read_data(bright_run(tmp_path_factory.mktemp("run"), 6), Preparation(32))


@pytest.fixture(scope="module")
def model(tiny_blip: Path) -> VPScore:
    return VPScore.from_backbone(str(tiny_blip)).eval()


def test_each_pass_takes_every_group_once_also_where_updates_run_over_its_end() -> None:
    order = [place for update in range(14) for place in groups_of_update(7, 4, update, seed=0)]
    for epoch in range(8):
        assert sorted(order[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert order[:7] != order[7:14]
    assert Counter(order) == dict.fromkeys(range(7), 8)
    assert groups_of_update(7, 4, 3, seed=0) != groups_of_update(7, 4, 3, seed=1)


def test_ranks_share_an_update_evenly_and_a_group_meets_the_same_rank_where_it_can() -> None:
    assert deal([4, 7, 2, 9], 1) == [[4, 7, 2, 9]]
    assert deal([4, 7, 2, 9], 2) == [[4, 2], [7, 9]]
    assert deal([4, 6, 2, 9], 2) == [[4, 6], [9, 2]]
    homes = [
        group % 4 == rank
        for update in range(200)
        for rank, share in enumerate(deal(groups_of_update(1000, 32, update, seed=0), 4))
        for group in share
    ]
    assert np.mean(homes) > 0.85


def test_the_loss_of_groups_is_the_mean_of_their_pairs_losses(model: VPScore, data: RewardData) -> None:
    smaller = Group(
        "p", "a red circle", data.groups[1].images[:3], (("fidelity", 2, 0, 0.5, 1.0), ("aesthetic", 0, 1, 0.8, 3.0))
    )
    groups = [data.groups[0], smaller]
    with torch.no_grad():
        loss = group_loss(Forward(model), data.images, groups).item()
    means = []
    for group in groups:
        scores = torch.from_numpy(model.score(data.images[group.images], [group.prompt] * len(group.images)))
        labelled = [pair for pair in group.pairs if pair[0] in model.aspects]
        total = sum(
            weight
            * pair_loss(
                scores[a, model.aspects.index(aspect)] - scores[b, model.aspects.index(aspect)], torch.tensor(p)
            ).item()
            for aspect, a, b, p, weight in labelled
        )
        means.append(total / sum(pair[4] for pair in labelled))
    assert loss == pytest.approx(np.mean(means), abs=1e-5)


def test_a_batch_costs_the_mean_of_its_parts(model: VPScore, data: RewardData) -> None:
    with torch.no_grad():
        whole = group_loss(Forward(model), data.images, data.groups)
        parts = [group_loss(Forward(model), data.images, data.groups[first : first + 2]) for first in (0, 2, 4)]
    assert whole.item() == pytest.approx(torch.stack(parts).mean().item(), abs=1e-5)


class CountingTokenizer:
    """A tokenizer that remembers what it cut into tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.pad_token_id = tokenizer, tokenizer.pad_token_id
        self.seen: list[str] = []

    def __call__(self, prompts: list[str], **options: Any) -> Any:
        self.seen += prompts
        return self._tokenizer(prompts, **options)


def test_a_prompt_is_cut_into_tokens_once_in_a_training(tiny_blip: Path, data: RewardData) -> None:
    model = VPScore.from_backbone(str(tiny_blip)).eval()
    tokenizer = CountingTokenizer(model.reader.tokenizer)
    model.reader = replace(model.reader, tokenizer=tokenizer)
    forward = Forward(model)
    with torch.no_grad():
        losses = [group_loss(forward, data.images, data.groups).item() for _ in range(3)]
    assert sorted(tokenizer.seen) == sorted({group.prompt for group in data.groups})
    assert len(set(losses)) == 1


def test_each_image_is_encoded_once_however_many_pairs_it_is_in(model: VPScore, data: RewardData) -> None:
    seen: list[int] = []
    hook = model.backbone.vision.register_forward_hook(
        lambda module, args, kwargs, out: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    try:
        group_loss(Forward(model), data.images, data.groups[:2])
    finally:
        hook.remove()
    assert seen == [8]
