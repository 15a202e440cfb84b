"""A small run directory, true to every schema: real renders, real judgements of them, made-up curves."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from vp_ray.evaluate.comparison import agreement, compare, compare_groups, pair_up
from vp_ray.evaluate.exploitation import exploitation
from vp_ray.ids import content_id, seed_from
from vp_ray.pictures import encode_png
from vp_ray.records import ASPECTS, COMPARISON, IMAGES, JUDGEMENTS, OVERALL, PREFERENCES, PROMPTS, SCORES
from vp_ray.shapeworld.degradations import Degradation, degrade
from vp_ray.shapeworld.judgement import judge_image
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, category_of, prompt_of, split_of
from vp_ray.storage import Manifest, RunFolder
from vp_ray.telemetry import JsonLines

HOSTILE = '<script>alert("pwned")</script>"><img src=x onerror=alert(1)> {{ 7 * 7 }} &amp; \N{RIGHT-TO-LEFT OVERRIDE}'

Picture = NDArray[np.uint8]


class MadeRun:
    """Builds stages one by one; each method writes one stage with its manifest."""

    def __init__(self, path: Path, prompts_a_split: int) -> None:
        self.run = RunFolder.at(path)
        self.rng = np.random.default_rng(11)
        scenes = [scene for scene in all_scenes() if split_of(scene) != "compositional"]
        order = self.rng.permutation(len(scenes))
        self.scenes = {
            split: [scenes[n] for n in order if split_of(scenes[n]) == split][:prompts_a_split]
            for split in ("train", "held_out")
        }
        self.images: list[dict[str, Any]] = []

    def _finish(self, stage: str, rows: dict[str, int], seconds: float, **rest: Any) -> None:
        folder = self.run.stage(stage)
        settings = {"seed": 0, "generators": [{"name": "weak", "steps": 10}], "judge": {"api_key": "sk-secret"}}
        folder.start(settings, {})
        folder.finish(Manifest(stage, settings, {}, rows, seconds, **rest))

    def draw(self, scene: Any, blur: float, noise: float, *seed: Any) -> Picture:
        rng = np.random.default_rng(seed_from(*seed))
        picture = render(arrange(scene, rng, hazard_share=0.15 if blur > 1 else 0.0))
        return degrade(picture, Degradation(blur=blur * rng.random(), warp=blur * rng.random(), noise=noise), rng)

    def prompts(self) -> None:
        rows = [
            {
                "prompt_id": content_id("prompt", prompt_of(scene)),
                "prompt": prompt_of(scene),
                "prompt_raw": prompt_of(scene),
                "source": "shapeworld",
                "category": category_of(scene),
                "split": split,
                "flags": [],
            }
            for split, scenes in self.scenes.items()
            for scene in scenes
        ]
        self.run.stage("prompts").write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS))
        self._finish("prompts", {"kept": len(rows), "duplicate": 3}, 0.4)

    def _image(self, prompt: str, prompt_id: str, generator: str, seed: int, picture: Picture) -> dict[str, Any]:
        image_id = content_id(prompt, generator, seed)
        return {
            "image_id": image_id,
            "prompt_id": prompt_id,
            "prompt": prompt,
            "generator": generator,
            "scheduler": "own",
            "steps": 10,
            "guidance_scale": 1.0,
            "seed": seed,
            "width": 32,
            "height": 32,
            "status": "made",
            "image": {"bytes": encode_png(picture), "path": f"{image_id}.png"},
        }

    def generate(self) -> None:
        for scene in self.scenes["train"]:
            prompt = prompt_of(scene)
            for generator, blur, noise in (("weak", 1.6, 14.0), ("strong", 0.8, 5.0)):
                for n in range(2):
                    picture = self.draw(scene, blur, noise, prompt, generator, n)
                    self.images.append(self._image(prompt, content_id("prompt", prompt), generator, n, picture))
        table = pa.Table.from_pylist(self.images, schema=IMAGES)
        for n in range(2):
            half = len(self.images) // 2
            self.run.stage("generate").write_table(f"images/part-{n}.parquet", table.slice(n * half, half))
        self._finish("generate", {"made": len(self.images) - 2, "blank": 2}, 21.5, figures={"images_per_second": 47.6})

    def annotate(self, hostile: bool = False) -> None:
        rows: list[dict[str, Any]] = []
        for scene in self.scenes["train"]:
            group = [row for row in self.images if row["prompt"] == prompt_of(scene)]
            for reverse in (False, True):
                shown = group[::-1] if reverse else group
                rows.append(self._judgement(scene, shown, "refused" if len(rows) % 17 == 5 else "scored", hostile))
        table = pa.Table.from_pylist(rows, schema=JUDGEMENTS)
        self.run.stage("annotate").write_table("judgements.parquet", table)
        scored = sum(row["status"] == "scored" for row in rows)
        figures = {
            "answers_per_minute": 812.0,
            "flip_rate": 0.061,
            "traffic": {"judge": {"requests": 80, "refused_by_rate": 1, "share_of_rate_used": 0.993}},
            "flip_rate_by_aspect": dict.fromkeys(ASPECTS, 0.06),
            "kappa_by_aspect": dict.fromkeys(ASPECTS, 0.81) | {"harmlessness": None},
            "costs": [
                {
                    "annotator": "judge",
                    "model": "gpt-4o",
                    "day": "2026-11-25",
                    "prices_as_of": "2026-11",
                    "answers": len(rows),
                    "attempts": len(rows),
                    "request_tokens": 1000,
                    "reply_tokens": 100,
                    "cost_usd": 0.0312,
                }
            ],
            "alpha_by_aspect": dict.fromkeys(ASPECTS, 0.79),
            "tau_by_aspect": dict.fromkeys(ASPECTS, 0.7),
            "orders_by_annotator": {"judge": {"kappa_by_aspect": dict.fromkeys(ASPECTS, 0.81)}},
            "between_annotators": {"judge and second": {"kappa_by_aspect": dict.fromkeys(ASPECTS, 0.6)}},
            "slot_bias": {"judge": {aspect: [0.21, -0.02, -0.04, -0.15] for aspect in ASPECTS}},
            "slot_bias_error": {"judge": {aspect: [0.03, 0.03, 0.03, None] for aspect in ASPECTS}},
        }
        row = {"low": None, "high": None, "pairs": 40, "bias": 0.2, "flip_rate": 0.1, "answered": 0.97}
        row |= {"request_tokens": 900.0, "reply_tokens": 100.0}
        behind = {"mean": 0.03, "low": 0.0, "high": 0.06}
        figures["choice"] = {
            "truth": "oracle",
            "rows": [
                row | {"annotator": "large", "accuracy": 0.9, "low": 0.85, "high": 0.95, "usd": 4.0, "behind": None},
                row | {"annotator": HOSTILE if hostile else "small", "accuracy": 0.87, "usd": 0.2, "behind": behind},
            ],
            "recommended": "large",
            "reason": "It is the most accurate.",
        }
        counts = {"scored": scored, "refused": len(rows) - scored}
        self._finish("annotate", counts, 31.2, cost_usd=0.0312, figures=figures)

    def _judgement(self, scene: Any, shown: list[dict[str, Any]], status: str, hostile: bool) -> dict[str, Any]:
        levels = []
        for row in shown:
            pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
            for aspect, opinion in judge_image(scene, pixels).items():
                level = int(np.clip(opinion.level + self.rng.integers(-1, 2), 1, 5))
                words = HOSTILE if hostile else opinion.rationale
                levels.append({"image_id": row["image_id"], "aspect": aspect, "level": level, "rationale": words})
        order = [row["image_id"] for row in shown]
        return {
            "judgement_id": content_id(*order),
            "prompt_id": shown[0]["prompt_id"],
            "prompt": shown[0]["prompt"],
            "order": order,
            "annotator": "judge",
            "rubric_version": "visionprefer-1",
            "status": status,
            "levels": levels if status == "scored" else [],
            "reply": "{}",
            "error": None,
            "request_tokens": 900,
            "reply_tokens": 300,
            "cost_usd": 0.0,
            "latency_seconds": 0.3,
            "attempts": 1,
        }

    def preferences(self, hostile: bool = False) -> None:
        judgements = self.run.stage("annotate").read_table("judgements.parquet").to_pylist()
        means: dict[tuple[str, str], list[int]] = {}
        for judgement in judgements:
            for entry in judgement["levels"]:
                means.setdefault((entry["image_id"], entry["aspect"]), []).append(entry["level"])
        rows = []
        for scene in self.scenes["train"]:
            group = [row for row in self.images if row["prompt"] == prompt_of(scene)]
            for one, other in combinations(group, 2):
                gaps = []
                for aspect in ASPECTS:
                    pair = (means.get((row["image_id"], aspect)) for row in (one, other))
                    first, second = (float(np.mean(levels)) if levels else 3.0 for levels in pair)
                    gaps.append(first - second)
                rows += [
                    self._preference(one, other, *column, hostile)
                    for column in (*zip(ASPECTS, gaps, strict=True), (OVERALL, float(np.mean(gaps))))
                ]
        self.run.stage("preferences").write_table("preferences.parquet", pa.Table.from_pylist(rows, schema=PREFERENCES))
        ties = sum(row["probability_a"] == 0.5 for row in rows)
        means_by_generator = {name: dict.fromkeys(ASPECTS, 3.1) for name in ("strong", "weak")}
        figures = {"mean_level_by_generator": means_by_generator}
        self._finish("preferences", {"decided": len(rows) - ties, "tied": ties}, 0.6, figures=figures)

    @staticmethod
    def _preference(
        one: dict[str, Any], other: dict[str, Any], aspect: str, gap: float, hostile: bool
    ) -> dict[str, Any]:
        return {
            "preference_id": content_id(one["image_id"], other["image_id"], aspect),
            "prompt_id": one["prompt_id"],
            "prompt": HOSTILE if hostile else one["prompt"],
            "aspect": aspect,
            "image_id_a": one["image_id"],
            "image_id_b": other["image_id"],
            "probability_a": 0.5 if gap == 0 else float(1 / (1 + np.exp(-2 * gap))),
            "margin": gap,
            "weight": 1.0,
            "same_generator": one["generator"] == other["generator"],
            "split": "train",
        }

    def reward(self) -> None:
        curve = JsonLines(self.run.stage("reward").make(), "metrics.jsonl")
        rows = []
        for update in range(0, 400, 2):
            row: dict[str, Any] = {
                "update": update,
                "loss": 0.42 + 0.27 * np.exp(-update / 90) + self.rng.normal(0, 0.02),
            }
            row["learning_rate"] = 1e-3 * (1 - update / 400)
            if update % 40 == 0:
                row["validation_accuracy"] = 0.84 - 0.3 * np.exp(-update / 80)
                row |= {f"validation_accuracy_{aspect}": 0.8 - 0.3 * np.exp(-update / 80) for aspect in ASPECTS}
            rows.append(row)
        curve.rows = rows[:-1]
        curve.append(rows[-1])
        accuracy = {
            aspect: {"accuracy": value, "low": value - 0.03, "high": value + 0.028, "pairs": 402}
            for aspect, value in zip((OVERALL, *ASPECTS), (0.842, 0.861, 0.79, 0.83, 0.88), strict=True)
        }
        figures = {
            "accuracy": accuracy,
            "cross_validation": [
                {"scorer": "vp_score", "accuracy": 0.612, "low": 0.57, "high": 0.65, "pairs": 840},
                {"scorer": "file_bytes", "accuracy": 0.584, "low": 0.55, "high": 0.62, "pairs": 840},
                {"scorer": "one_person", "accuracy": 0.848, "low": 0.83, "high": 0.86, "pairs": 8100},
            ],
            "calibration": {
                aspect: {
                    "error": 0.03,
                    "bins": [
                        {"low": p, "high": p + 0.1, "pairs": 80, "predicted": p + 0.05, "observed": p + 0.02}
                        for p in (0.5, 0.6, 0.7, 0.8, 0.9)
                    ],
                }
                for aspect in (OVERALL, *ASPECTS)
            },
            "pairs": 1500,
            "updates": 400,
        }
        self._finish("reward", {"pairs": 1500}, 54.0, figures=figures)

    def rl(self, epochs: int = 24, finish: bool = True) -> None:
        folder = self.run.stage("rl")
        curve = JsonLines(folder.make(), "metrics.jsonl")
        curve.append({"epoch": 0, "update": 0, "held_out_score": 0.12})
        for epoch in range(1, epochs + 1):
            rise = 1 - np.exp(-epoch / 9)
            row: dict[str, Any] = {
                "epoch": epoch,
                "update": 2 * epoch,
                "reward_mean": 0.1 + 0.5 * rise + self.rng.normal(0, 0.03),
            }
            row |= {
                f"{aspect}_mean": 0.2 * n + 0.3 * rise + self.rng.normal(0, 0.02) for n, aspect in enumerate(ASPECTS)
            }
            row |= {"ratio_mean": 1.0, "clip_share_high": 0.02 * rise, "clip_share_low": 0.03 * rise, "kl": 0.4 * rise}
            row |= {"gradient_norm": 1 + self.rng.random(), "zero_variance_share": 0.0, "seconds_sampling": 1.4}
            row |= {"held_out_score": None, "seconds_reward_wait": 0.1, "seconds_update": 2.2, "reward_std": 0.4}
            row["reward_standard_error"] = 0.04
            if epoch % 4 == 0:
                row["held_out_score"] = 0.12 + 0.4 * rise
                row |= {f"held_out_{aspect}": 0.2 * n + 0.25 * rise for n, aspect in enumerate(ASPECTS)}
                folder.write_bytes(f"grids/epoch_{epoch:03d}.png", self._sheet(epoch))
            curve.append(row)
        folder.write_bytes("grids/epoch_000.png", self._sheet(0))
        figures: dict[str, Any] = {"epochs": epochs, "updates": 2 * epochs, "images": 256 * epochs, "best_epoch": 20}
        figures |= {"reward_wait_share": 0.027, "stopped_early": False, "reward_first": 0.11, "reward_last": 0.57}
        if finish:
            self._finish("rl", {"images": 256 * epochs}, 96.4, figures=figures)
        else:
            folder.start({}, {})

    def _sheet(self, epoch: int) -> bytes:
        rows = []
        for first in (0, 8):
            shown = [self.scenes["held_out"][n % len(self.scenes["held_out"])] for n in range(first, first + 8)]
            blur = 1.8 - 0.06 * epoch
            rows.append(np.concatenate([self.draw(s, blur, 10, "sheet", n) for n, s in enumerate(shown)], axis=1))
        return encode_png(np.concatenate(rows))

    def evaluate(self, hostile: bool = False) -> None:
        images, scores = [], []
        for scene in self.scenes["held_out"]:
            prompt = prompt_of(scene)
            for generator, blur, noise in (("base", 1.8, 14.0), ("tuned", 1.1, 8.0)):
                picture = self.draw(scene, blur, noise, prompt, "evaluate")
                image = self._image(HOSTILE if hostile else prompt, content_id("prompt", prompt), generator, 5, picture)
                images.append(image | {"image_id": content_id(prompt, generator)})
                opinions = judge_image(scene, picture)
                levels = {aspect: float(opinion.level) for aspect, opinion in opinions.items()}
                for scorer in ("oracle", "vp_score"):
                    scale = 1.0 if scorer == "oracle" else 0.3
                    noise_level = 0.0 if scorer == "oracle" else 0.3
                    for aspect, level in (levels | {OVERALL: float(np.mean(list(levels.values())))}).items():
                        score = scale * level + self.rng.normal(0, noise_level)
                        about = {"image_id": images[-1]["image_id"], "prompt_id": image["prompt_id"], "seed": 5}
                        scores.append(
                            about | {"generator": generator, "scorer": scorer, "aspect": aspect, "score": score}
                        )
        folder = self.run.stage("evaluate")
        folder.write_table("images/part.parquet", pa.Table.from_pylist(images, schema=IMAGES))
        table = pa.Table.from_pylist(scores, schema=SCORES)
        folder.write_table("scores.parquet", table)
        pairs = pair_up(table)
        rows = compare(pairs, ["oracle"])
        folder.write_table("comparison.parquet", pa.Table.from_pylist(rows, schema=COMPARISON))
        ways = dict.fromkeys(("guidance_3", HOSTILE if hostile else "other_noise"), pairs)
        figures = {
            "comparison": rows,
            "agreement": agreement(pairs, "vp_score", ["oracle"]),
            "conditions": compare_groups(ways, ["oracle"], "condition"),
            "categories": compare_groups({"counts": pairs, "relations": pairs}, ["oracle"], "category"),
            "variety": {"share": 0.9, "low": 0.8, "high": 0.97, "within_base": 2.0, "within_tuned": 1.5},
            "exploitation": exploitation(rows, ["vp_score"], ["oracle"], None),
        }
        self._finish("evaluate", {"made": len(images), "scored": len(images)}, 18.0, figures=figures)

    def everything(self, hostile: bool = False) -> RunFolder:
        self.prompts()
        self.generate()
        self.annotate(hostile)
        self.preferences(hostile)
        self.reward()
        self.rl()
        self.evaluate(hostile)
        return self.run


@pytest.fixture
def made_run(tmp_path: Path) -> Callable[..., MadeRun]:
    """Builds a run in a temporary directory, of so many prompts a split."""

    def make(prompts_a_split: int = 6, name: str = "demo") -> MadeRun:
        return MadeRun(tmp_path / name, prompts_a_split)

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of which all stages are finished; tests read it and do not change it."""
    return MadeRun(tmp_path_factory.mktemp("run") / "demo", 12).everything()


@pytest.fixture(scope="session")
def module_run() -> Callable[[Path, int], MadeRun]:
    """Builds a run at a path, for fixtures that outlive one test."""
    return MadeRun
