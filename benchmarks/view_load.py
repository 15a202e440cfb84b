"""How fast the viewer shows 100,000 pairs in headless Chromium: the first picture, then paging by key.

A run of 16,667 prompts, four pictures of 512 pixels each, two judgements a prompt with a rationale for every level.
Each round has a fresh server and a fresh browser. The value is the time from the navigation to the frame after the
first picture was loaded; what `vp-ray view` takes before, to read the run, stands beside it.
"""

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from runs import ROOT, print_figure

sys.path.insert(0, str(ROOT))

from tests.browser import Tab, browser
from vp_ray.annotate.planning import index_images
from vp_ray.annotate.ratings import collect, rate, slot_effects
from vp_ray.ids import content_id
from vp_ray.preferences.config import CheckSettings, PreferenceSettings
from vp_ray.preferences.job import run as make_preferences
from vp_ray.records import ASPECTS, IMAGES, JUDGEMENTS, LEVEL, PROMPTS, RATINGS
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, prompt_of
from vp_ray.storage import Manifest, RunFolder
from vp_ray.view.reading import read_view
from vp_ray.view.server import serving

GROUPS, IMAGES_EACH, ORDERS = 16_667, 4, 2
DISTINCT_PICTURES, SIDE = 128, 512
ROUNDS = 5
PRESSES = 60
WORDS = np.array(
    [
        "The subject is sharp and stands out from a calm ground.",
        "Two demands of the prompt are missing, the colour of the square and its place.",
        "Edges dissolve and there is noise in the shadows.",
        "Nothing objectionable can be seen.",
    ]
)


def pictures(rng: np.random.Generator) -> list[bytes]:
    """PNG files of 512 pixels with soft shapes and a little grain, as photographs have."""
    scenes, found = list(all_scenes()), []
    for number in range(DISTINCT_PICTURES):
        small = Image.fromarray(render(arrange(scenes[number * 37], rng, hazard_share=0.0)))
        large = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(6))
        grain = rng.integers(-1, 2, (SIDE, SIDE, 1)) * (rng.random((SIDE, SIDE, 1)) < 0.05)
        buffer = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)).save(
            buffer, "PNG", compress_level=1
        )
        found.append(buffer.getvalue())
    return found


def write_images(
    run: RunFolder, prompt_ids: list[str], prompts: list[str], image_ids: list[str], pool: list[bytes]
) -> None:
    """One Parquet file a generator, in row groups of 100, as the generate stage writes them."""
    folder = run.stage("generate") / "images"
    folder.local_path.mkdir(parents=True)
    for place in range(IMAGES_EACH):
        with pq.ParquetWriter(folder.local_path / f"model-{place}.parquet", IMAGES, compression="zstd") as writer:
            for start in range(0, GROUPS, 100):
                rows = [
                    {
                        "image_id": image_ids[group * IMAGES_EACH + place],
                        "prompt_id": prompt_ids[group],
                        "prompt": prompts[group],
                        "generator": f"model-{place}",
                        "scheduler": "ddim",
                        "steps": 30,
                        "guidance_scale": 7.5,
                        "seed": group,
                        "width": SIDE,
                        "height": SIDE,
                        "status": "made",
                        "flags": [],
                        "image": {"bytes": pool[(group * 7 + place * 31) % len(pool)], "path": "picture.png"},
                    }
                    for group in range(start, min(start + 100, GROUPS))
                ]
                writer.write_table(pa.Table.from_pylist(rows, schema=IMAGES), row_group_size=100)


def judgement_table(
    prompt_ids: list[str], prompts: list[str], image_ids: list[str], rng: np.random.Generator
) -> pa.Table:
    """Two judgements a prompt, the second in reversed order, with noisy levels and a rationale each."""
    rows, cells = GROUPS * ORDERS, IMAGES_EACH * len(ASPECTS)
    slot = np.tile(np.arange(IMAGES_EACH), (rows, 1))
    slot[1::2] = slot[1::2, ::-1]
    shown = (np.arange(rows)[:, None] // ORDERS * IMAGES_EACH + slot).reshape(-1)
    ids = pa.array(image_ids)
    true = rng.normal(3.5, 1.0, (len(image_ids), len(ASPECTS)))
    level = np.clip(np.round(true[shown] + rng.normal(0, 0.6, (len(shown), len(ASPECTS)))), 1, 5).astype(np.int8)
    entries = pa.StructArray.from_arrays(
        [
            ids.take(pa.array(np.repeat(shown, len(ASPECTS)))),
            pa.array(ASPECTS).take(pa.array(np.tile(np.arange(len(ASPECTS)), len(shown)))),
            pa.array(level.reshape(-1)),
            pa.array(WORDS).take(pa.array(rng.integers(0, len(WORDS), level.size))),
        ],
        fields=list(LEVEL),
    )
    group = np.arange(rows) // ORDERS
    columns = {
        "judgement_id": [f"judgement-{row}" for row in range(rows)],
        "prompt_id": pa.array(prompt_ids).take(pa.array(group)),
        "prompt": pa.array(prompts).take(pa.array(group)),
        "order": pa.ListArray.from_arrays(np.arange(0, len(shown) + 1, IMAGES_EACH), ids.take(pa.array(shown))),
        "annotator": ["judge"] * rows,
        "rubric_version": ["visionprefer-1"] * rows,
        "status": ["scored"] * rows,
        "levels": pa.ListArray.from_arrays(np.arange(0, rows * cells + 1, cells), entries),
    }
    arrays = [columns.get(item.name, pa.nulls(rows, item.type)) for item in JUDGEMENTS]
    return pa.table(arrays, names=JUDGEMENTS.names).cast(JUDGEMENTS)


def made_run(folder: Path) -> RunFolder:
    """The run, finished up to its preferences, which the package's own stages make of the judgements."""
    rng, run = np.random.default_rng(0), RunFolder.at(folder)
    scenes = list(all_scenes())
    prompts = [f"{prompt_of(scenes[group % len(scenes)])}, picture {group}" for group in range(GROUPS)]
    prompt_ids = [content_id("prompt", prompt) for prompt in prompts]
    image_ids = [content_id(name, place) for name in prompt_ids for place in range(IMAGES_EACH)]
    about = {"source": "benchmark", "category": "", "split": "train", "flags": []}
    rows = [
        {"prompt_id": name, "prompt": prompt, "prompt_raw": prompt, **about}
        for name, prompt in zip(prompt_ids, prompts, strict=True)
    ]
    run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
    write_images(run, prompt_ids, prompts, image_ids, pictures(rng))
    judgements = judgement_table(prompt_ids, prompts, image_ids, rng)
    run.stage("annotate").write_table("judgements.parquet", judgements)
    levels = collect(judgements)
    ratings = rate(levels, slot_effects(levels)[1], index_images(run.stage("generate") / "images"))
    run.stage("annotate").write_table("ratings.parquet", ratings, RATINGS)
    for stage in ("prompts", "generate", "annotate"):
        run.stage(stage).finish(Manifest(stage, {}, {}, {}, 0.0))
    # The checks look at thousands of pictures, and the viewer shows none of what they find.
    outcome = make_preferences(PreferenceSettings(checks=CheckSettings(predictor_prompts=0)), run)
    run.stage("preferences").finish(Manifest("preferences", {}, {}, outcome.rows, 0.0))
    return run


def durations(tab: Tab, name: str, presses: int) -> list[float]:
    """Milliseconds of all measures of a name, once there are as many as keys were pressed."""
    tab.until(f"performance.getEntriesByName('{name}').length >= {presses}")
    return [float(value) for value in tab.run(f"performance.getEntriesByName('{name}').map((m) => m.duration)")]


def page_through(tab: Tab, key: str) -> dict[str, float]:
    """Latency of `PRESSES` presses of a key, each after the pictures of the last are there."""
    tab.run("performance.clearMeasures()")
    for press in range(1, PRESSES + 1):
        tab.press(key)
        tab.until(f"performance.getEntriesByName('page-pictures').length >= {press}")
    text, whole = durations(tab, "page-text", PRESSES), durations(tab, "page-pictures", PRESSES)
    return {
        "text_p50": statistics.median(text),
        "text_p95": statistics.quantiles(text, n=20)[-1],
        "pictures_p50": statistics.median(whole),
        "pictures_p95": statistics.quantiles(whole, n=20)[-1],
    }


with tempfile.TemporaryDirectory(prefix="vp-view-") as folder:
    run = made_run(Path(folder) / "run")
    prepare, first = [], []
    near: dict[str, float] = {}
    far: dict[str, float] = {}
    for turn in range(ROUNDS + 1):
        started = time.monotonic()
        data = read_view(run)
        prepare.append(time.monotonic() - started)
        with serving(data, "benchmark", 320) as address, browser() as tab:
            tab.look(1360, 860)
            tab.open(address)
            tab.until("performance.getEntriesByName('first-picture').length")
            first.append(tab.run("performance.getEntriesByName('first-picture')[0].startTime") / 1000)
            if turn == ROUNDS:
                near = page_through(tab, "ArrowDown")
                tab.run("location.hash = '#order=largest'")
                tab.until("document.querySelector('[name=order]').value === 'largest'")
                far = page_through(tab, "ArrowDown")
        assert not tab.complaints, tab.complaints
    pairs = len(data.pairs.group_P)

value = statistics.median(first[1:])
print_figure(
    "view_first_image_seconds",
    value,
    "s",
    "at most 1",
    slowest=max(first[1:]),
    pairs=pairs,
    images=data.images.num_rows,
    seconds_to_read_the_run=statistics.median(prepare[1:]),
)
print_figure("view_paging_milliseconds", near["text_p50"], "ms", "a key press to the pair's text", **near)
print_figure("view_paging_far_milliseconds", far["text_p50"], "ms", "the same by margin, pictures far apart", **far)
