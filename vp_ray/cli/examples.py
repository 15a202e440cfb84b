"""What users type, by command: shown at the end of each help text and in docs/cli.md, and parsed by a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "": (
        "vp-ray demo                      # the whole loop, in minutes",
        "vp-ray init prompts my.yaml      # a commented job file for your case",
        "vp-ray run my.yaml --dry-run     # the plan; without --dry-run the run",
    ),
    "demo": (
        "vp-ray demo                                        # minutes",
        "vp-ray demo --dry-run",
        "vp-ray demo --set run=runs/long --set rl.epochs=40  # minutes",
    ),
    "init": (
        "vp-ray init trial",
        "vp-ray init prompts my.yaml      # also: images, pairs, tune",
        "vp-ray init rubric mine.yaml",
    ),
    "doctor": (
        "vp-ray doctor",
        "vp-ray doctor jobs/open_judge.yaml   # and what this job needs",
        "vp-ray doctor --json",
    ),
    "run": (
        "vp-ray run jobs/demo.yaml --dry-run",
        "vp-ray run jobs/demo.yaml",
        "vp-ray run jobs/demo.yaml --from evaluate           # the stages before are skipped",
        "vp-ray run jobs/demo.yaml --json > outcome.json",
    ),
    "submit": (
        "vp-ray submit jobs/visionprefer.yaml --cluster http://localhost:8265   # needs a cluster",
        "vp-ray submit jobs/visionprefer.yaml --cluster http://localhost:8265 --until reward --no-wait   # needs one",
    ),
    "status": (
        "vp-ray status runs/demo",
        "vp-ray status s3://bucket/run --json    # needs S3",
    ),
    "scale": (
        "vp-ray scale jobs/visionprefer.yaml --prompts 10000000 --gpus 1000",
        "vp-ray scale my.yaml --like trial.yaml --like larger.yaml --prompts 1000000 --gpus 64   # needs two runs",
    ),
    "tables": (
        "vp-ray tables jobs/tables.yaml --dry-run   # the runs and how far they are",
        "vp-ray tables jobs/tables.yaml             # needs half an hour",
        "vp-ray tables jobs/tables.yaml --layout    # of what is finished; needs some",
    ),
    "prompts": (
        "vp-ray prompts jobs/demo.yaml",
        "vp-ray prompts jobs/real_prompts.yaml --dry-run",
    ),
    "import": ("vp-ray import jobs/hpdv2_gallery.yaml --dry-run",),
    "generate": (
        "vp-ray generate jobs/demo.yaml --dry-run   # images, GPU hours, gigabytes",
        "vp-ray generate jobs/demo.yaml",
    ),
    "annotate": (
        "vp-ray annotate jobs/demo.yaml --estimate --tier 10000/30000000",
        "vp-ray annotate jobs/demo.yaml",
        "vp-ray annotate jobs/demo.yaml --retry refused,unreadable",
    ),
    "preferences": ("vp-ray preferences jobs/demo.yaml",),
    "reward": (
        "vp-ray reward jobs/demo.yaml",
        "vp-ray reward jobs/demo.yaml --dry-run --set reward.workers.num_workers=4",
    ),
    "rl": (
        "vp-ray rl jobs/demo.yaml",
        "vp-ray rl jobs/demo.yaml --dry-run --set rl.epochs=40   # says what changed",
    ),
    "evaluate": (
        "vp-ray evaluate jobs/demo.yaml",
        "vp-ray evaluate --table rewards --scorer runs/demo/reward/checkpoint --test runs/demo --out rewards",
    ),
    "report": ("vp-ray report jobs/demo.yaml",),
    "view": (
        "vp-ray view runs/demo            # until Ctrl-C",
        "vp-ray view runs/demo --static pairs --prompts 100",
    ),
    "vote": (
        "vp-ray vote runs/demo                        # until Ctrl-C",
        "vp-ray vote runs/demo --aspect aesthetic     # until Ctrl-C",
        "vp-ray vote runs/demo --results --json       # needs votes",
    ),
    "export": (
        "vp-ray export runs/demo --out dataset",
        "vp-ray export runs/demo --out dataset --push OWNER/NAME --dry-run",
    ),
    "score": (
        'vp-ray score runs/demo/reward/checkpoint --prompt "a red circle" image.png',
        "vp-ray score imagereward:ImageReward.pt rows.csv --out scores.parquet   # needs weights",
        'vp-ray score clip:openai/clip-vit-base-patch32 "images/*.png" --prompt "a circle" --json   # needs weights',
    ),
    "serve": (
        "vp-ray serve runs/demo/reward/checkpoint     # until Ctrl-C",
        "vp-ray serve mine=runs/demo/reward/checkpoint aesthetic:LAION.pth --port 8001   # until Ctrl-C",
    ),
    "judge": (
        "vp-ray judge --set port=8100         # until Ctrl-C",
        "vp-ray judge --job jobs/demo.yaml    # until Ctrl-C",
    ),
    "shapeworld train": ("vp-ray shapeworld train --out weights --part weak   # minutes",),
    "spot-agent": ("vp-ray spot-agent --cloud aws --ray 10.0.0.5:6379   # needs a cluster",),
}
"""Lines as in a shell; what follows ` # ` is said to the reader."""


def epilogue(lines: Sequence[str]) -> str:
    """The end of a help text, in rich's markup."""
    return "\n".join(["[bold]Examples[/bold]", *(line.replace("[", "\\[") for line in lines)])
