"""A million ratings to preferences, from Parquet to Parquet, and the same by a loop over a pandas frame's groups."""

import itertools
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import ndtr

from runs import print_figure
from vp_ray.ids import content_id, uniform_from
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.pairing import make_preferences
from vp_ray.records import ASPECTS, PREFERENCES, RATINGS
from vp_ray.storage import Folder

RATINGS_IN_ALL, IMAGES_A_PROMPT, ROUNDS, SAMPLE_PROMPTS = 1_000_000, 4, 5, 250
SETTINGS = PreferenceSettings()


def write_ratings(folder: Folder) -> None:
    """Ratings and prompts as the annotate and prompts stages leave them: ids are hashes, prompts in their own order."""
    images = RATINGS_IN_ALL // len(ASPECTS)
    prompts = images // IMAGES_A_PROMPT
    rng = np.random.default_rng(0)
    prompt_ids = np.array([content_id("prompt", place) for place in range(prompts)])
    image_ids = np.array([content_id("image", place) for place in range(images)])
    image = np.repeat(np.arange(images), len(ASPECTS))
    mean = np.clip(rng.normal(3.2, 1.0, len(image)), 1, 5)
    columns = {
        "image_id": image_ids[image],
        "prompt_id": prompt_ids[image // IMAGES_A_PROMPT],
        "generator": np.array(["weak", "strong"])[image % 2],
        "aspect": np.tile(np.array(ASPECTS), images),
        "mean": mean,
        "standard_error": np.full(len(image), 0.35),
        "count": np.full(len(image), 2),
    }
    folder.write_table("ratings.parquet", pa.table(columns).cast(RATINGS))
    texts = [
        f"prompt number {place}, with about as many words as people write when they ask" for place in range(prompts)
    ]
    split = ["held_out" if uniform_from(name) < 0.1 else "train" for name in prompt_ids]
    folder.write_table("prompts.parquet", pa.table({"prompt_id": prompt_ids, "prompt": texts, "split": split}))


def by_arrow(folder: Folder) -> float:
    """Seconds of the stage's own way."""
    started = time.perf_counter()
    table = make_preferences(folder.read_table("ratings.parquet"), folder.read_table("prompts.parquet"), SETTINGS)
    folder.write_table("preferences.parquet", table, PREFERENCES)
    return time.perf_counter() - started


def by_loop(folder: Folder) -> float:
    """Makes the same rows of the first prompts by a loop over a frame's groups; its seconds."""
    ratings = folder.read_table("ratings.parquet").to_pandas()
    prompts = folder.read_table("prompts.parquet").to_pandas().set_index("prompt_id")
    wanted = prompts.index[:SAMPLE_PROMPTS]
    ratings = ratings[ratings["prompt_id"].isin(set(wanted))]
    rows = []
    started = time.perf_counter()
    for prompt_id, group in ratings.groupby("prompt_id", sort=False):
        prompt = prompts.loc[prompt_id]
        images = {name: part.set_index("aspect") for name, part in group.groupby("image_id")}
        for a, b in itertools.combinations(sorted(images), 2):
            first, second = images[a], images[b]
            margins, variances = [], []
            for aspect in (*ASPECTS, "overall"):
                if aspect == "overall":
                    margin, variance, tie = np.mean(margins), np.sum(variances) / 16, SETTINGS.overall_tie_levels
                else:
                    one, other = first.loc[aspect], second.loc[aspect]
                    margin = one["mean"] - other["mean"]
                    errors = [max(row["standard_error"], SETTINGS.level_noise) for row in (one, other)]
                    variance, tie = errors[0] ** 2 + errors[1] ** 2, SETTINGS.tie_levels
                    margins.append(margin)
                    variances.append(variance)
                probability = 0.5 if abs(margin) < tie else float(ndtr(margin / np.sqrt(variance)))
                same = first["generator"].iloc[0] == second["generator"].iloc[0]
                name = f"{content_id('pair', a, b)}-{aspect}"
                row = (name, prompt_id, prompt["prompt"], aspect, a, b, probability, margin, 1.0, same, prompt["split"])
                rows.append((*row, "annotated"))
    frame = pd.DataFrame(rows, columns=PREFERENCES.names)
    seconds = time.perf_counter() - started
    made = folder.read_table("preferences.parquet").to_pandas()
    expected = made[made["prompt_id"].isin(set(wanted))]
    joined = frame.merge(expected, on="preference_id", suffixes=("", "_expected"))
    assert len(joined) == len(frame) == len(expected)
    assert np.allclose(joined["probability_a"], joined["probability_a_expected"], atol=1e-12)
    return seconds


def measured(work: Callable[[Folder], float], folder: Folder) -> tuple[float, float]:
    """Seconds, imports aside, and peak memory (GiB) of one call in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, work, folder).result()


def _measure(work: Callable[[Folder], float], folder: Folder) -> tuple[float, float]:
    return work(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="vp-preferences-") as place:
        folder = Folder.at(Path(place))
        write_ratings(folder)
        measured(by_arrow, folder)
        rounds = [(measured(by_arrow, folder), measured(by_loop, folder)) for _ in range(ROUNDS)]
    scale = (RATINGS_IN_ALL // len(ASPECTS) // IMAGES_A_PROMPT) / SAMPLE_PROMPTS
    seconds = statistics.median(ours[0] for ours, _ in rounds)
    loop = statistics.median(other[0] for _, other in rounds) * scale
    baseline = f"loop over a pandas frame's groups, measured on {SAMPLE_PROMPTS} prompts and scaled"
    print_figure("preferences_seconds_per_million", seconds, "s", baseline, loop_seconds=loop, times=loop / seconds)
    peak = max(ours[1] for ours, _ in rounds)
    print_figure("preferences_peak_gb", peak, "GiB", "the whole process, Parquet to Parquet, 1M ratings")
