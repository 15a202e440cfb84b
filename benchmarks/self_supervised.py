"""VP-Score learnt from annotated pairs, from self-supervised pairs and from both: accuracy on held-out prompts.

The three learn from the same images of the embedded world; the noise-free judge's levels of other images are the truth.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from runs import print_figure, run_job
from vp_ray.maths.intervals import clustered_mean
from vp_ray.models.reward import VPScore
from vp_ray.pictures import decode_image
from vp_ray.preferences.pairing import pairs_within
from vp_ray.records import ASPECTS
from vp_ray.shapeworld.judgement import score_images
from vp_ray.storage import RunFolder

TRAIN_PROMPTS, HELD_OUT_PROMPTS = 192, 128
MANY = "preferences.self_supervised={images_per_prompt: 4, pairs_per_image: 2}"
SOURCES = {
    "annotated": [],
    "constructed": ["preferences.annotated=false", MANY],
    "both": ["preferences.self_supervised={images_per_prompt: 2, pairs_per_image: 2}"],
}

with tempfile.TemporaryDirectory(prefix="vp-self-supervised-") as folder:
    drawn, asked = Path(folder) / "drawn", Path(folder) / "asked"
    prompts = f"prompts.sources.0.counts={{train: {TRAIN_PROMPTS}, held_out: {HELD_OUT_PROMPTS}}}"
    run_job("jobs/demo.yaml", drawn, [prompts], until="annotate")
    run_job("jobs/demo.yaml", asked, [prompts, "generate.splits=[held_out]"], until="generate")
    rows = RunFolder.at(asked).stage("generate").read_table("images").to_pylist()
    rows.sort(key=lambda row: (row["prompt_id"], row["image_id"]))
    pixels = np.stack([decode_image(row["image"]["bytes"]) for row in rows])
    texts = [row["prompt"] for row in rows]
    clusters = np.array([row["prompt_id"] for row in rows])
    # The noise-free judge answers in whole levels; the mean over aspects is its overall.
    levels = np.rint(score_images(pixels, texts))
    first, second = pairs_within(np.unique(clusters, return_inverse=True)[1])
    truths = {"overall": levels.mean(axis=1)} | {aspect: levels[:, place] for place, aspect in enumerate(ASPECTS)}
    for name, settings in SOURCES.items():
        learnt = Path(folder) / name
        shutil.copytree(drawn, learnt)
        run_job("jobs/demo.yaml", learnt, [prompts, *settings], until="reward")
        model = VPScore.from_pretrained(str(learnt / "reward" / "checkpoint"))
        raw = model.score(pixels, texts)
        scores = {"overall": model.overall(raw)} | {aspect: raw[:, n] for n, aspect in enumerate(model.aspects)}
        by_aspect = {}
        for aspect, truth in truths.items():
            decided = truth[first] != truth[second]
            one, other = first[decided], second[decided]
            agreed = (1 + np.sign(truth[one] - truth[other]) * np.sign(scores[aspect][one] - scores[aspect][other])) / 2
            by_aspect[aspect] = clustered_mean(agreed, clusters[one])
        overall = by_aspect.pop("overall")
        print_figure(
            f"self_supervised_accuracy_{name}",
            overall.mean,
            "share",
            f"noise-free judge, overall, {HELD_OUT_PROMPTS} held-out prompts; a coin gives 0.5",
            low=overall.low,
            high=overall.high,
            **{aspect: found.mean for aspect, found in by_aspect.items()},
        )
