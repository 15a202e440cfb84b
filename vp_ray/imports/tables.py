"""Groups of another data set as the tables of this package; pictures are written as they come."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vp_ray.errors import InputError
from vp_ray.ids import content_id, uniform_from
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.files import Picture, decoded, read_picture
from vp_ray.imports.groups import Group, Judged, Shown
from vp_ray.records import (
    COMPARISONS,
    IMAGES,
    JUDGEMENTS,
    PROMPTS,
    RANKINGS,
    RATINGS,
    ImageStatus,
    Status,
)
from vp_ray.storage import Folder

_ROWS_A_PART: Final = 1000
_BYTES_A_PART: Final = 128 << 20


class TableWriter:
    """Takes groups one by one; `finish` writes what is left."""

    def __init__(self, folder: Folder, settings: ImportSettings) -> None:
        self._folder, self._settings = folder, settings
        path = Path(settings.path).expanduser()
        beside = path.parent / "images" if settings.kind != "images" else path if path.is_dir() else path.parent
        self._pictures = Path(settings.images).expanduser() if settings.images else beside
        self._source = path.name
        self._prompts: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, bool] = {}
        """Whether each image has a picture."""
        self._generators: dict[str, str] = {}
        self._waiting: list[dict[str, Any]] = []
        self._waiting_bytes = self._parts = 0
        self._tables: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, group: Group, where: str) -> None:
        """Keeps a group; raises `InputError` for a picture that cannot be used, and then keeps nothing of it."""
        prompt_id = content_id("prompt", group.prompt)
        ids = [content_id(prompt_id, image.name) for image in group.images]
        fresh = {}
        for image_id, image in zip(ids, group.images, strict=True):
            if not self._seen.get(image_id) and image_id not in fresh:
                picture = self._picture(image, where)
                if picture is not None or image_id not in self._seen:
                    fresh[image_id] = self._image_row(image_id, prompt_id, group.prompt, image, picture)
        for image_id, row in fresh.items():
            self._seen[image_id] = row["image"]["bytes"] is not None
            self._generators[image_id] = row["generator"]
            self._waiting.append(row)
            self._waiting_bytes += len(row["image"]["bytes"] or b"")
        if prompt_id not in self._prompts:
            self._prompts[prompt_id] = self._prompt_row(prompt_id, group.prompt)
        self._add_answers(group, prompt_id, ids)
        if len(self._waiting) >= _ROWS_A_PART or self._waiting_bytes >= _BYTES_A_PART:
            self._flush()

    def _picture(self, image: Shown, where: str) -> Picture | None:
        if self._settings.pictures == "none":
            return None
        if image.data is not None:
            return decoded(image.data, f"{where}, image {image.name}")
        try:
            return read_picture(self._pictures / image.name)
        except InputError:
            if self._settings.pictures == "optional" and not (self._pictures / image.name).exists():
                return None
            raise

    def _add_answers(self, group: Group, prompt_id: str, ids: list[str]) -> None:
        for ranking in group.rankings:
            for image_id, rank in zip(ids, ranking.ranks, strict=True):
                row = {"prompt_id": prompt_id, "rater": ranking.rater, "image_id": image_id, "rank": rank}
                self._tables["rankings"].append(row)
        for choice in group.choices:
            self._tables["comparisons"].append(
                {
                    "prompt_id": prompt_id,
                    "rater": choice.rater,
                    "aspect": choice.aspect,
                    "image_id_a": ids[0],
                    "image_id_b": ids[1],
                    "preferred_a": choice.preferred_first,
                    "answered_at": choice.answered_at,
                }
            )
        for rating in group.ratings:
            self._tables["ratings"].append(
                {
                    "image_id": ids[rating.image],
                    "prompt_id": prompt_id,
                    "generator": self._generators[ids[rating.image]],
                    "aspect": rating.aspect,
                    "mean": rating.level,
                    "standard_error": rating.standard_error,
                    "count": rating.count,
                }
            )
        for judged in group.judgements:
            self._tables["judgements"].append(self._judgement_row(group, judged, prompt_id, ids))

    def _judgement_row(self, group: Group, judged: Judged, prompt_id: str, ids: list[str]) -> dict[str, Any]:
        levels = [
            {"image_id": image_id, "aspect": aspect, "level": level, "rationale": rationale}
            for image_id, given in zip(ids, judged.levels, strict=True)
            for aspect, (level, rationale) in given.items()
        ]
        number = len(self._tables["judgements"])
        return dict.fromkeys(JUDGEMENTS.names) | {
            "judgement_id": content_id("imported", prompt_id, judged.annotator, number),
            "prompt_id": prompt_id,
            "prompt": group.prompt,
            "order": ids,
            "annotator": judged.annotator,
            "rubric_version": "imported",
            "status": str(Status.SCORED),
            "levels": levels,
        }

    def _prompt_row(self, prompt_id: str, prompt: str) -> dict[str, Any]:
        held_out = uniform_from("prompt-split", prompt.casefold()) < self._settings.held_out_share
        return {
            "prompt_id": prompt_id,
            "prompt": prompt,
            "prompt_raw": prompt,
            "source": self._source,
            "category": "",
            "split": "held_out" if held_out else self._settings.split,
            "flags": [],
        }

    def _image_row(
        self, image_id: str, prompt_id: str, prompt: str, image: Shown, picture: Picture | None
    ) -> dict[str, Any]:
        return dict.fromkeys(IMAGES.names) | {
            "image_id": image_id,
            "prompt_id": prompt_id,
            "prompt": prompt,
            "generator": image.generator,
            "scheduler": "",
            "width": picture.width if picture else None,
            "height": picture.height if picture else None,
            "status": str(ImageStatus.MADE if picture else ImageStatus.ABSENT),
            "image": {"bytes": picture.data if picture else None, "path": Path(image.name).name},
        }

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_pylist(self._waiting, schema=IMAGES)
            self._folder.write_table(f"images/part-{self._parts:05d}.parquet", table)
            self._parts += 1
            self._waiting, self._waiting_bytes = [], 0

    def finish(self) -> dict[str, int]:
        """Writes the tables; rows by kind."""
        self._flush()
        (self._folder / "images").seal(f"part-{part:05d}.parquet" for part in range(self._parts))
        judged = mean_ratings(self._tables["judgements"], self._generators)
        if judged:
            known = {(row["image_id"], row["aspect"]) for row in judged}
            rest = [row for row in self._tables["ratings"] if (row["image_id"], row["aspect"]) not in known]
            self._tables["ratings"] = judged + rest
        self._folder.write_table(
            "prompts.parquet", pa.Table.from_pylist(list(self._prompts.values()), schema=PROMPTS), PROMPTS
        )
        schemas = {"rankings": RANKINGS, "comparisons": COMPARISONS, "ratings": RATINGS, "judgements": JUDGEMENTS}
        counts = {"prompts": len(self._prompts), "images": len(self._seen)}
        for name, schema in schemas.items():
            if self._tables[name]:
                rows = _one_each(self._tables[name]) if name == "ratings" else self._tables[name]
                self._folder.write_table(f"{name}.parquet", pa.Table.from_pylist(rows, schema=schema))
                counts["ranks" if name == "rankings" else name] = len(rows)
        without = sum(not there for there in self._seen.values())
        return counts | ({"images_without_picture": without} if without else {})


def mean_ratings(judgements: list[dict[str, Any]], generators: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of `records.RATINGS`: means over the annotators, with errors pooled over the images that several judged."""
    levels: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in judgements:
        for entry in row["levels"]:
            levels[row["prompt_id"], entry["image_id"], entry["aspect"]].append(entry["level"])
    squares: dict[str, float] = defaultdict(float)
    repeats: dict[str, int] = defaultdict(int)
    for (_, _, aspect), given in levels.items():
        squares[aspect] += float(np.var(given)) * len(given)
        repeats[aspect] += len(given) - 1
    return [
        {
            "image_id": image_id,
            "prompt_id": prompt_id,
            "generator": generators[image_id],
            "aspect": aspect,
            "mean": float(np.mean(given)),
            "standard_error": (squares[aspect] / repeats[aspect] / len(given)) ** 0.5 if repeats[aspect] else None,
            "count": len(given),
        }
        for (prompt_id, image_id, aspect), given in levels.items()
    ]


def _one_each(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One rating an image and aspect: several people's are averaged, with the standard error of their mean."""
    by_key: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_key[row["image_id"], row["aspect"]].append(row)
    return [given[0] if len(given) == 1 else _averaged(given) for given in by_key.values()]


def _averaged(given: list[dict[str, Any]]) -> dict[str, Any]:
    means = [row["mean"] for row in given]
    error = float(np.std(means, ddof=1)) / len(means) ** 0.5
    return given[0] | {"mean": float(np.mean(means)), "standard_error": error, "count": sum(r["count"] for r in given)}
