"""The functions of the interface: each makes a job of its arguments and runs it, but for `score`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vp_ray.api.inputs import image_table, plain_value, png, read_text, table, text_file
from vp_ray.api.results import Judged, TrainedReward, Tuned
from vp_ray.errors import InputError
from vp_ray.pipeline.settings import JobSettings
from vp_ray.records import OVERALL
from vp_ray.storage import RunFolder

if TYPE_CHECKING:
    from vp_ray.api.inputs import Picture


def annotate(
    images: str | Path | Mapping[str, Sequence[Picture]],
    annotator: Mapping[str, Any],
    *,
    run: str | Path,
    **settings: Any,
) -> Judged:
    """Judgements, ratings and preferences of images that you have.

    `images`: pictures by prompt; a folder of pictures with each one's prompt in a text file of the same name; or a
    table with the columns `prompt` and `image`. Images of a prompt are judged together. `annotator`: its settings
    (`AnnotatorSettings`), such as `{"name": "gpt", "model": "gpt-4.1-mini", "api_key_env": "OPENAI_API_KEY"}`.
    `settings`: others of `annotate`, such as `budget_usd=5` or `orders=4`.

    Raises `InputError` for images that cannot be read, `AnnotatorError`, and `BudgetError` with all answers kept.
    """
    folder = RunFolder.at(run)
    path = image_table(images, folder) if isinstance(images, Mapping) else Path(images)
    embedded = annotator.get("base_url") == "embedded"
    job = {
        "import": {"kind": "images", "path": str(path.resolve())},
        "annotate": {"annotators": [dict(annotator)], **settings},
        "preferences": {},
        **({"judge": {}} if embedded else {}),
    }
    return Judged(_done(job, folder))


def score(
    pictures: Sequence[Picture], prompts: str | Sequence[str], scorer: str, *, device: str = "cpu"
) -> list[dict[str, float]]:
    """For each picture its scores by aspect, and `overall`.

    `prompts`: one for all, or one a picture. `scorer`: a VP-Score checkpoint or `KIND:PLACE`, as `vp-ray score` takes
    it. Loads the scorer at each call: `vp_ray.load_scorer` keeps it. Raises `InputError` that names the picture.
    """
    from vp_ray.models.scorers import load_scorer
    from vp_ray.score.rows import Row
    from vp_ray.score.scoring import ScoreStatus, score_rows

    texts = [prompts] * len(pictures) if isinstance(prompts, str) else list(prompts)
    if len(texts) != len(pictures):
        raise InputError(f"there are {len(pictures)} pictures and {len(texts)} prompts", "Give a prompt a picture.")
    loaded = load_scorer(scorer, device)
    rows = []
    for number, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        name = str(picture) if isinstance(picture, str | Path) else f"picture {number}"
        source = Path(picture).expanduser() if isinstance(picture, str | Path) else png(picture)
        rows.append(Row(name, name, source, text))
    found = []
    for one in score_rows(loaded, rows, batch_rows=32):
        if one.status != ScoreStatus.SCORED or one.overall is None:
            raise InputError(one.reason, "Mend it or leave it out.", one.row.place)
        found.append({**dict(zip(loaded.aspects, one.scores, strict=True)), OVERALL: one.overall})
    return found


def train_reward(
    pairs: str | Path | Iterable[Mapping[str, Any]],
    *,
    run: str | Path,
    images: str | Path | None = None,
    **settings: Any,
) -> TrainedReward:
    """VP-Score, trained on choices between two images.

    `pairs`: rows of `prompt`, `image_a`, `image_b` (files) and `answer` (`a`, `b` or `tie`), or a table of these
    columns. `images`: the folder that file names are relative to; the table's own where it is not given. `settings`:
    those of `reward`, such as `backbone="Salesforce/blip-itm-base-coco"` or `epochs=8`.

    Raises `InputError` for rows and images that cannot be used.
    """
    folder = RunFolder.at(run)
    if isinstance(pairs, str | Path):
        path = Path(pairs).resolve()
    else:
        path = table("pairs", [{key: plain_value(value) for key, value in row.items()} for row in pairs], folder)
    beside = Path.cwd() if not isinstance(pairs, str | Path) else path.parent
    job = {
        "import": {
            "kind": "table",
            "path": str(path),
            "images": str(Path(images).resolve() if images else beside),
            "columns": {"layout": "pairs"},
        },
        "preferences": {},
        "reward": settings,
    }
    return TrainedReward(_done(job, folder))


def tune(
    generator: str,
    reward: str,
    prompts: str | Path | Sequence[str],
    *,
    run: str | Path,
    **settings: Any,
) -> Tuned:
    """A generator, fine-tuned by reinforcement learning to please a scorer.

    `generator`: `embedded:NAME`, a directory or hub id of a diffusers pipeline. `reward`: a VP-Score checkpoint or
    `KIND:PLACE`; its aspects are weighed alike unless `reward_weights` says otherwise (as `reward.ASPECT`).
    `prompts`: a list, or a text file of one a line; some are held out and watched. `settings`: those of `rl`, such as
    `epochs=40` or `dtype="float16"`.
    """
    from vp_ray.models.scorers import load_scorer

    folder = RunFolder.at(run)
    if isinstance(prompts, str | Path):
        path = Path(prompts).resolve()
        count = sum(bool(line.strip()) for line in read_text(path).splitlines())
    else:
        path, count = text_file("prompts.txt", "".join(f"{prompt}\n" for prompt in prompts), folder), len(prompts)
    aspects = load_scorer(reward).aspects
    held_out = min(64, count // 5)
    place = reward if ":" in reward or not Path(reward).exists() else str(Path(reward).resolve())
    rl = {
        "generator": generator,
        "scorers": {"reward": {"source": place}},
        "reward_weights": {f"reward.{aspect}": 1.0 for aspect in aspects},
        "held_out_prompts": held_out,
        "keep": "best" if held_out else "last",
        # Diversity is seen by the run's own VP-Score, and here there is none.
        "diversity_floor": 0.0,
        **settings,
    }
    return Tuned(_done({"prompts": {"sources": [{"kind": "text", "path": str(path)}]}, "rl": rl}, folder), generator)


def _done(job: Mapping[str, Any], folder: RunFolder) -> RunFolder:
    """The run, with all stages of the job finished."""
    from vp_ray.pipeline.running import run_job

    run_job(JobSettings.load({"run": folder.uri, "report": None, **job}, "arguments"))
    return folder
