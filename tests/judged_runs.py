"""Small run folders that are finished up to their preferences, judged by the embedded world's own measure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.small_runs import small_run
from vp_ray.annotate.agreement import agreement_figures, level_table
from vp_ray.annotate.figures import level_figures
from vp_ray.annotate.planning import index_images
from vp_ray.annotate.ratings import collect, rate, slot_effects
from vp_ray.ids import content_id
from vp_ray.judging.rubric import Rubric
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run as make_preferences
from vp_ray.records import JUDGEMENTS, LEVELS, RATINGS, Status
from vp_ray.shapeworld.judgement import judge_image
from vp_ray.shapeworld.scenes import all_scenes, prompt_of
from vp_ray.storage import Manifest, RunFolder

SECRET = "sk-do-not-publish-4242"
"""What the ledger, the replies, the errors and the settings of these runs hold."""

ANNOTATORS = ("judge", "second")


def judged_run(
    path: Path, prompts: int, rationale: str | None = None, preferences: PreferenceSettings | None = None
) -> RunFolder:
    """A run of `prompts` prompts of four images, each judged by two annotators in two orders; every ninth refuses.

    `rationale` replaces what the annotators say.
    """
    run = small_run(path, prompts)
    scenes = {prompt_of(scene): scene for scene in all_scenes()}
    table = (run.stage("generate") / "images").read_table(".")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["prompt"], []).append(row)
    rows: list[dict[str, Any]] = []
    for prompt, images in groups.items():
        for annotator in ANNOTATORS:
            for shown in (images, images[::-1]):
                refused = len(rows) % 9 == 4
                rng = np.random.default_rng(len(rows))
                levels = []
                for row in () if refused else shown:
                    pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
                    for aspect, opinion in judge_image(scenes[prompt], pixels).items():
                        level = int(np.clip(opinion.level + rng.integers(-1, 2), 1, 5))
                        words = rationale or opinion.rationale
                        levels.append(
                            {"image_id": row["image_id"], "aspect": aspect, "level": level, "rationale": words}
                        )
                rows.append(_judgement(shown, annotator, levels, refused))
    judgements = pa.Table.from_pylist(rows, schema=JUDGEMENTS)
    folder = run.stage("annotate")
    folder.write_table("judgements.parquet", judgements, JUDGEMENTS)
    (folder / "ledger").make().write_bytes("1.jsonl", f'{{"reply": "{SECRET}"}}\n'.encode())
    levels_given = collect(judgements)
    effects, removed = slot_effects(levels_given)
    index = index_images(run.stage("generate") / "images")
    folder.write_table("ratings.parquet", rate(levels_given, removed, index), RATINGS)
    figures = agreement_figures(level_table(levels_given), judgements, len(LEVELS)) | level_figures(
        levels_given, effects
    )
    scored = sum(row["status"] == Status.SCORED for row in rows)
    counts = {"scored": scored, "refused": len(rows) - scored}
    folder.finish(Manifest("annotate", _annotate_settings(), {}, counts, 7200.0, 12.5, figures))
    run.stage("generate").finish(Manifest("generate", _generate_settings(), {}, {"made": table.num_rows}, 60.0))
    outcome = make_preferences(preferences or PreferenceSettings(), run)
    run.stage("preferences").finish(Manifest("preferences", {}, {}, outcome.rows, 1.0, 0.0, outcome.figures))
    return run


def _judgement(
    shown: list[dict[str, Any]], annotator: str, levels: list[dict[str, Any]], refused: bool
) -> dict[str, Any]:
    order = [row["image_id"] for row in shown]
    row = dict.fromkeys(JUDGEMENTS.names)
    return row | {
        "judgement_id": content_id(annotator, *order),
        "prompt_id": shown[0]["prompt_id"],
        "prompt": shown[0]["prompt"],
        "order": order,
        "annotator": annotator,
        "rubric_version": Rubric.load("visionprefer").version,
        "status": str(Status.REFUSED if refused else Status.SCORED),
        "levels": levels,
        "reply": f"a reply that quotes {SECRET}",
        "error": f"refused for the key {SECRET}" if refused else None,
        "cost_usd": 0.01,
    }


def _annotate_settings() -> dict[str, Any]:
    annotator = {"model": "a-model", "base_url": f"https://{SECRET}.example/v1", "image_side_pixels": 64}
    return {
        "annotators": [annotator | {"name": name, "api_key_env": SECRET} for name in ANNOTATORS],
        "orders": 2,
        "rubric": "visionprefer",
        "judge": {"api_key": SECRET},
    }


def _generate_settings() -> dict[str, Any]:
    return {
        "generators": [
            {
                "name": "strong",
                "source": f"/home/{SECRET}/models/strong-one",
                "steps": 30,
                "guidance_scale": [3.0, 12.0],
            },
            {"name": "weak", "source": "someone/weak-model", "steps": 10, "guidance_scale": [7.5, 7.5]},
        ]
    }
