"""VP-Score's held-out accuracy over its noisy annotator's own, both against the noise-free judge's levels."""

import tempfile
from pathlib import Path

import numpy as np

from runs import print_figure, run_job
from vp_ray.maths.intervals import clustered_mean
from vp_ray.models.reward import VPScore
from vp_ray.pictures import decode_image
from vp_ray.records import OVERALL
from vp_ray.shapeworld.judgement import score_images
from vp_ray.storage import RunFolder

TRAIN_PROMPTS, HELD_OUT_PROMPTS = 1536, 256

with tempfile.TemporaryDirectory(prefix="vp-ceiling-") as folder:
    learnt, asked = Path(folder) / "learnt", Path(folder) / "asked"
    prompts = f"prompts.sources.0.counts={{train: {TRAIN_PROMPTS}, held_out: {HELD_OUT_PROMPTS}}}"
    run_job("jobs/demo.yaml", learnt, [prompts], until="reward")
    run_job("jobs/demo.yaml", asked, [prompts, "generate.splits=[held_out]"], until="preferences")

    run = RunFolder.at(asked)
    rows = run.stage("generate").read_table("images").to_pylist()
    pixels = np.stack([decode_image(row["image"]["bytes"]) for row in rows])
    texts = [row["prompt"] for row in rows]
    model = VPScore.from_pretrained(str(learnt / "reward" / "checkpoint"))
    ids = [row["image_id"] for row in rows]
    # The noise-free judge answers in whole levels; the mean over aspects is its overall.
    truth = dict(zip(ids, np.rint(score_images(pixels, texts)).mean(axis=1).tolist(), strict=True))
    scores = dict(zip(ids, model.overall(model.score(pixels, texts)).tolist(), strict=True))
    preferences = [
        row
        for row in run.stage("preferences").read_table("preferences.parquet").to_pylist()
        if row["aspect"] == OVERALL and truth[row["image_id_a"]] != truth[row["image_id_b"]]
    ]

signs = np.array([np.sign(truth[row["image_id_a"]] - truth[row["image_id_b"]]) for row in preferences])
judged = np.sign([row["margin"] for row in preferences])
scored = np.sign([scores[row["image_id_a"]] - scores[row["image_id_b"]] for row in preferences])
clusters = [row["prompt_id"] for row in preferences]
annotator = clustered_mean((1 + signs * judged) / 2, clusters)
vp_score = clustered_mean((1 + signs * scored) / 2, clusters)
baseline = "the noisy annotator, two orders, same pairs; equal scores count one half"
print_figure("reward_ceiling", vp_score.mean / annotator.mean, "ratio", baseline)
print_figure("reward_accuracy", vp_score.mean, "share", "noise-free judge", low=vp_score.low, high=vp_score.high)
print_figure("annotator_accuracy", annotator.mean, "share", "noise-free judge", low=annotator.low, high=annotator.high)
