"""Images a second of `score` with 8 and 32 images a call, over a loop of calls with one image each.

The network is BLIP's shape at 224 px, width 256, with 12 vision and 6 text layers: what two cores score in seconds.
"""

import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from reward_models import PROMPTS, scorer
from runs import print_figure

ROUNDS, IMAGES = 5, 32

torch.set_num_threads(1)
model = scorer(vision_layers=12, text_layers=6)
images = np.random.default_rng(0).integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
prompts = [PROMPTS[place // 4 % len(PROMPTS)] for place in range(IMAGES)]


def rate(batch: int) -> float:
    """Images a second, so many a call."""
    began = time.monotonic()
    for first in range(0, IMAGES, batch):
        model.score(images[first : first + batch], prompts[first : first + batch])
    return IMAGES / (time.monotonic() - began)


for batch in (1, 8, 32):
    rate(batch)
rates: dict[int, list[float]] = {batch: [] for batch in (1, 8, 32)}
for _ in range(ROUNDS):
    for batch, found in rates.items():
        found.append(rate(batch))
for batch in (8, 32):
    print_figure(
        f"scoring_batch_{batch}",
        statistics.median(many / one for many, one in zip(rates[batch], rates[1], strict=True)),
        "ratio",
        "score called with one image at a time, one thread",
        images_per_second=statistics.median(rates[batch]),
        images_per_second_batch_1=statistics.median(rates[1]),
        rounds=ROUNDS,
    )
