"""Images a second when the rows of a batch have guidance scales of their own, over one scale for all.

`grouped_guidance` is the alternative: the pipeline's own call, once for each scale of the batch.
"""

import os
import random
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from runs import print_figure
from vp_ray.models.config import GeneratorSettings
from vp_ray.models.generators import TextToImage
from vp_ray.models.sampler import ImageRequest
from vp_ray.shapeworld.scenes import all_scenes, prompt_of

ROUNDS, BATCH = 7, 16

torch.set_num_threads(1)
model = TextToImage(GeneratorSettings(name="strong", source="embedded:strong", steps=10))
by_call = TextToImage(GeneratorSettings(name="strong", source="embedded:strong", steps=10))
by_call.family = None
prompts = [prompt_of(scene) for scene in list(all_scenes())[:BATCH]]
scales = random.Random(0)
one = [ImageRequest(prompt, seed, 7.5) for seed, prompt in enumerate(prompts)]
mixed = [ImageRequest(prompt, seed, scales.uniform(3, 12)) for seed, prompt in enumerate(prompts)]


def seconds(draw: Callable[[], object]) -> float:
    started = time.monotonic()
    draw()
    return time.monotonic() - started


ways = {
    "one": lambda: model.draw(one),
    "mixed": lambda: model.draw(mixed),
    "grouped": lambda: by_call.draw(mixed),
}
for draw in ways.values():
    draw()
times: dict[str, list[float]] = {name: [] for name in ways}
for _ in range(ROUNDS):
    for name, draw in ways.items():
        times[name].append(seconds(draw))
for figure, name in (("mixed_guidance", "mixed"), ("grouped_guidance", "grouped")):
    ratio = statistics.median(first / second for first, second in zip(times["one"], times[name], strict=True))
    print_figure(figure, ratio, "ratio", "one guidance scale for the batch", batch=BATCH, rounds=ROUNDS)
