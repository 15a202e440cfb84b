"""Pairs a second of VP-Score's training over ImageReward's scheme, on the same network, data, optimiser and order.

The network has BLIP-large's shape (24 vision and 12 text layers, 224 pixels in patches of 16, 35 tokens) at width 256,
on random weights, with the lower 70 % frozen; groups of four images with six pairs. ImageReward's scheme, written here
anew: of every pair the better and the worse image each go through the whole network, and prompts are padded to 35
tokens, as its code does. Prompts have 8 to 26 tokens, about what HPDv2's have; `reward_training_long_prompts` is the
same where every prompt fills the 35. The two take each update in turn; seconds are those of the one thread's processor,
so that a busy machine does not count.
"""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BlipConfig

from runs import print_figure
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.config import OptimizerSettings
from vp_ray.distributed.engines import TorchEngine
from vp_ray.models.backbones import FAMILIES
from vp_ray.models.preparation import Preparation
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import Normalisation, VPScoreConfig
from vp_ray.records import OVERALL
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import Group, RewardData
from vp_ray.reward.forward import new_forward
from vp_ray.reward.step import groups_of_update
from vp_ray.reward.update import Update
from vp_ray.shapeworld.architectures import grammar_words
from vp_ray.shapeworld.backbone import write_bert_tokenizer
from vp_ray.storage import Folder

IMAGES, TOKENS, STEPS, LONG_STEPS = 4, 35, 20, 7
GROUPS, GROUPS_OF_UPDATE = 12, 2
SIZE = "BLIP of width 256, 24 + 12 layers, 224 px, 70 % frozen, groups of 4, 12 pairs an update, 1 thread"
SCHEME = "ImageReward's two forwards a pair without a cache"
SETTINGS = RewardSettings(
    frozen_share=0.7, batch_groups=GROUPS_OF_UPDATE, optimizer=OptimizerSettings(learning_rate=1e-5)
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a BLIP, of which a head has 64 numbers at most."""

    vision_width: int
    text_width: int
    vision_layers: int = 24
    text_layers: int = 12
    side: int = 224
    patch: int = 16

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.side // self.patch) ** 2 + 1


def _width(width: int) -> dict[str, int]:
    heads = max(1, width // 64)
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}


def new_model(folder: Path, shape: Shape) -> VPScore:
    """Random weights, large enough that scores differ between images."""
    text = {"num_hidden_layers": shape.text_layers, "encoder_hidden_size": shape.vision_width}
    vision = {"num_hidden_layers": shape.vision_layers, "image_size": shape.side, "patch_size": shape.patch}
    blip = BlipConfig(
        text_config=_width(shape.text_width) | text, vision_config=_width(shape.vision_width) | vision
    ).to_dict()
    config = VPScoreConfig(
        family="blip",
        backbone=blip,
        preparation=Preparation(shape.side),
        text_tokens=TOKENS,
        aspects=(OVERALL,),
        overall_weights=(1.0,),
        normalisation=Normalisation.none(1),
    )
    torch.manual_seed(0)
    model = VPScore(config, FAMILIES["blip"].new(blip), write_bert_tokenizer(folder))
    for parameter in model.backbone.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    model.freeze(SETTINGS.frozen_share)
    return model


def new_data(shortest: int, longest: int, side: int = 224, count: int = GROUPS) -> RewardData:
    """Smooth random pictures, always the same; each group has its images in a random order from best to worst.

    Prompts have so many tokens, of which two mark begin and end.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count * IMAGES, 3, 7, 7)).astype(np.float32))
    smooth = functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255)
    words = [word for word in grammar_words() if word.isalpha()]
    groups = []
    for place in range(count):
        order = rng.permutation(IMAGES).tolist()
        pairs = tuple((OVERALL, a, b, 1.0, 1.0) for rank, a in enumerate(order) for b in order[rank + 1 :])
        prompt = " ".join(rng.choice(words, int(rng.integers(shortest, longest + 1)) - 2))
        groups.append(Group(f"{place:02d}", prompt, np.arange(place * IMAGES, (place + 1) * IMAGES), pairs))
    names = tuple(str(place) for place in range(count * IMAGES))
    return RewardData(smooth.permute(0, 2, 3, 1).byte().numpy(), names, tuple(groups), (OVERALL,))


class ImageRewardScheme:
    """One update: each pair's better and worse image are scored by a forward pass of their own."""

    def __init__(self, model: VPScore, data: RewardData, precision: torch.dtype = torch.float32) -> None:
        self.model, self.data, self.precision = model.train(), data, precision
        self.engine = TorchEngine(model, SETTINGS.optimizer)

    def scores(self, images: Sequence[int], prompts: Sequence[str]) -> Tensor:
        tokens = self.model.reader.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        backbone: Any = self.model.backbone
        device = self.model.device
        values = self.model.preparation.pixel_values(self.data.images[list(images)]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            states = backbone.text(
                input_ids=tokens.input_ids.to(device),
                attention_mask=tokens.attention_mask.to(device),
                encoder_hidden_states=backbone.see(values),
            ).last_hidden_state
            scores: Tensor = self.model.head(states[:, 0])
        return scores.float()

    def __call__(self, groups: Sequence[Group]) -> float:
        pairs = [(group.images[a], group.images[b], group.prompt) for group in groups for _, a, b, _, _ in group.pairs]
        better, worse, prompts = zip(*pairs, strict=True)
        loss = -functional.logsigmoid(self.scores(better, prompts) - self.scores(worse, prompts)).mean()
        self.engine.accumulate(loss)
        return loss.item()


def timed(clock: Callable[[], float], work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What the work gives, and the seconds that it took by the clock."""
    started = clock()
    return work(*arguments), clock() - started


@dataclass(frozen=True, slots=True)
class Step:
    """One update by both schemes."""

    steady: bool
    """Whether the frozen states of all images were found."""
    ratio: float
    our_loss: float
    their_loss: float
    pairs_per_second: float


def run(
    first: int,
    steps: int,
    theirs: ImageRewardScheme,
    ours: Update,
    data: RewardData,
    batch: int = GROUPS_OF_UPDATE,
    clock: Callable[[], float] = time.process_time,
) -> list[Step]:
    """Updates first..first + steps - 1 of so many groups, each by ImageReward's scheme and then by ours."""
    prefix = ours.forward.prefix
    assert prefix is not None
    theirs.data = data
    ours = replace(ours, data=data)
    found = []
    for number in range(first, first + steps):
        chosen = groups_of_update(len(data.groups), batch, number, SETTINGS.seed)
        before = prefix.found
        their_loss, their_seconds = timed(clock, theirs, [data.groups[place] for place in chosen])
        losses, seconds = timed(clock, ours, data.groups, chosen, number)
        steady = prefix.found - before == len(chosen)
        ratio = their_seconds / seconds
        found.append(Step(steady, ratio, statistics.mean(losses), their_loss, 6 * len(chosen) / seconds))
    return found


def tell(name: str, steps: Sequence[Step], **told: Any) -> None:
    """Prints the median of the steps' ratios."""
    ratios = [step.ratio for step in steps]
    print_figure(
        name,
        statistics.median(ratios),
        "ratio",
        SCHEME,
        rounds=len(steps),
        low=min(ratios),
        high=max(ratios),
        pairs_per_second=statistics.median(step.pairs_per_second for step in steps),
        **told,
    )


def main() -> None:
    torch.set_num_threads(1)
    shape, told = Shape(256, 256), {"size": SIZE, "measured": "seconds of the processor"}
    data = new_data(8, 26)
    with tempfile.TemporaryDirectory(prefix="vp-reward-training-") as folder:
        model = new_model(Path(folder), shape)
        theirs = ImageRewardScheme(copy.deepcopy(model), data)
        forward = new_forward(SETTINGS, model.train(), torch.device("cpu"), Folder.at(folder))
    ours = Update(forward, TorchEngine(model, SETTINGS.optimizer), SingleProcess(), data, 1, SETTINGS.seed)
    with torch.no_grad():  # a warm-up that changes nothing
        theirs.scores(data.groups[0].images, [data.groups[0].prompt] * IMAGES)
        ids = torch.zeros(IMAGES, TOKENS, dtype=torch.long)
        model(torch.zeros(IMAGES, shape.tokens, shape.vision_width), ids, torch.ones_like(ids))
    steps = run(0, STEPS, theirs, ours, data)
    tell("reward_training", [step for step in steps if step.steady], **told)
    tell("reward_training_first_epoch", [step for step in steps if not step.steady], **told)
    first, last = steps[0].our_loss, steps[-1].our_loss
    baseline = f"{SCHEME}; losses of {STEPS} steps, from {first:.6f} to {last:.6f}"
    difference = max(abs(step.our_loss - step.their_loss) for step in steps)
    print_figure("reward_training_loss_difference", difference, "absolute", baseline)
    tell("reward_training_long_prompts", run(STEPS, LONG_STEPS, theirs, ours, new_data(60, 60)), **told)


if __name__ == "__main__":
    main()
