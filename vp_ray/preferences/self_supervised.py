"""Pairs whose order is known without an annotator, and the pictures that they need."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vp_ray.errors import InputError
from vp_ray.ids import content_id, seed_from, uniform_from
from vp_ray.maths.duplicates import normalised
from vp_ray.pictures import decode_image, encode_png
from vp_ray.preferences.augmentations import AUGMENTATIONS, Edit, Picture, edits
from vp_ray.preferences.config import SelfSupervisedSettings
from vp_ray.preferences.sources import UNKNOWN_GENERATORS
from vp_ray.records import IMAGES, OVERALL, PREFERENCES, SELF_SUPERVISED, ImageStatus
from vp_ray.storage import Folder, explained

_WEAKEST: Final = 0.4
"""Weaker augmentations may not be seen."""
_CANDIDATES: Final = 64
"""Other prompts, by hash, of which the most similar is taken."""
_IMAGES_A_PART: Final = 500


@dataclass(slots=True)
class Construction:
    """The rows that were made so far; `finish` gives them as a table."""

    folder: Folder
    settings: SelfSupervisedSettings
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    parts: int = 0

    def pair(
        self,
        kind: str,
        prompt: dict[str, Any],
        better: dict[str, Any],
        worse: dict[str, Any],
        aspects: tuple[str, ...],
        same: tuple[str, ...] = (),
    ) -> None:
        """Adds one pair in its aspects and overall, and as a tie in those that stay the same."""
        first, second = sorted((better["image_id"], worse["image_id"]))
        sure = self.settings.probability if first == better["image_id"] else 1 - self.settings.probability
        name = content_id("pair", prompt["prompt_id"], first, second)
        generators = (better["generator"], worse["generator"])
        known = not set(generators) & {None, *UNKNOWN_GENERATORS}
        for aspect in (*aspects, OVERALL, *same):
            self.rows.append(
                {
                    "preference_id": f"{name}-{aspect}",
                    "prompt_id": prompt["prompt_id"],
                    "prompt": prompt["prompt"],
                    "aspect": aspect,
                    "image_id_a": first,
                    "image_id_b": second,
                    "probability_a": 0.5 if aspect in same else sure,
                    "margin": None,
                    "weight": self.settings.weight,
                    "same_generator": generators[0] == generators[1] if known else None,
                    "split": prompt["split"],
                    "source": SELF_SUPERVISED,
                }
            )
        self.kinds[kind] += 1

    def picture(self, original: dict[str, Any], pixels: Picture, *how: str | int) -> dict[str, Any]:
        """Keeps a picture that was made of another one; its row."""
        image_id = content_id("constructed", original["image_id"], *how)
        row = original | {
            "image_id": image_id,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "image": {"bytes": encode_png(pixels), "path": f"{image_id}.png"},
        }
        self.pictures.append(row)
        if len(self.pictures) == _IMAGES_A_PART:
            self._flush()
        return row

    def _flush(self) -> None:
        if self.pictures:
            table = pa.Table.from_pylist(self.pictures, schema=IMAGES)
            self.folder.write_table(f"images/constructed-{self.parts:05d}.parquet", table)
            self.pictures, self.parts = [], self.parts + 1

    def finish(self) -> tuple[pa.Table, dict[str, int]]:
        """`records.PREFERENCES`, and how many pairs of each kind."""
        self._flush()
        (self.folder / "images").seal(f"constructed-{part:05d}.parquet" for part in range(self.parts))
        self.rows.sort(key=lambda row: (row["prompt_id"], row["preference_id"]))
        return pa.Table.from_pylist(self.rows, schema=PREFERENCES), dict(sorted(self.kinds.items()))


def construct(
    source: Folder,
    images: pa.Table,
    prompts: pa.Table,
    every_prompt: pa.Table,
    folder: Folder,
    settings: SelfSupervisedSettings,
) -> tuple[pa.Table, dict[str, int]]:
    """Pairs of the images of `prompts`, and how many of each kind; pictures go to `images/` in `folder`.

    `source` holds the images of the run and `images` is their index. Edited prompts that another split has in
    `every_prompt` are left out, since they would leak. Everything is fixed by the ids, whatever the order of the rows.
    Raises `InputError` where no image can be used.
    """
    made = Construction(folder, settings)
    by_id = {row["prompt_id"]: row for row in prompts.select(["prompt_id", "prompt", "split"]).to_pylist()}
    splits = {normalised(row["prompt"]): row["split"] for row in every_prompt.to_pylist()}
    chosen = _chosen(images, set(by_id), settings.images_per_prompt)
    similar = SimilarPrompts(by_id, chosen)
    for original, pixels in _decoded(source, {row["image_id"] for rows in chosen.values() for row in rows}):
        prompt = by_id[original["prompt_id"]]
        possible = _edits(prompt, splits)
        unable = set() if possible else {"edited_prompt"}
        if similar.of(prompt["prompt_id"]) is None:
            unable.add("other_prompt")
        able = [kind for kind in settings.kinds if kind not in unable]
        for kind in _kinds(original["image_id"], able, settings.pairs_per_image):
            rng = np.random.default_rng(seed_from("constructed", original["image_id"], kind))
            if kind == "other_prompt":
                made.pair(kind, prompt, original, similar.image(original), ("prompt_following",))
            elif kind == "edited_prompt":
                _edited(made, prompt, original, pixels, possible[int(rng.integers(len(possible)))])
            else:
                change = AUGMENTATIONS[kind]
                worse = change.apply(pixels, _WEAKEST + (1 - _WEAKEST) * rng.random(), rng)
                made.pair(kind, prompt, original, made.picture(original, worse, kind), change.worse, change.same)
    if not made.rows:
        raise InputError("no self-supervised pair can be made", "Draw images first, or choose other kinds.", source.uri)
    return made.finish()


def _edited(made: Construction, prompt: dict[str, Any], original: dict[str, Any], pixels: Picture, edit: Edit) -> None:
    """The picture fits its prompt better than the changed one, which fits the edited prompt better."""
    changed = made.picture(original, edit.apply(pixels), "edited_prompt", edit.prompt)
    edited = {"prompt_id": content_id("prompt", edit.prompt), "prompt": edit.prompt, "split": prompt["split"]}
    made.pair("edited_prompt", prompt, original, changed, ("prompt_following",))
    made.pair("edited_prompt", edited, changed, original, ("prompt_following",))


def _edits(prompt: dict[str, Any], splits: dict[str, str]) -> list[Edit]:
    """The edits that do not make a prompt of another split."""
    own = prompt["split"]
    return [edit for edit in edits(prompt["prompt"]) if splits.get(normalised(edit.prompt), own) == own]


def _chosen(images: pa.Table, prompts: set[str], most: int) -> dict[str, list[dict[str, Any]]]:
    """The images of each prompt that are used, by the hash of their ids."""
    made = images.filter(pc.equal(images["status"], str(ImageStatus.MADE)))
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in made.select(["image_id", "prompt_id", "generator"]).to_pylist():
        if row["prompt_id"] in prompts:
            found[row["prompt_id"]].append(row)
    return {
        name: sorted(rows, key=lambda row: uniform_from("constructed-image", row["image_id"]))[:most]
        for name, rows in found.items()
    }


def _decoded(source: Folder, wanted: set[str]) -> Iterator[tuple[dict[str, Any], Picture]]:
    """(row, pixels) of wanted images, a row group at a time."""
    filesystem, path = source.filesystem()
    for name in source.names():
        if not name.endswith(".parquet"):
            continue
        with explained(f"{source.uri}/{name}"), pq.ParquetFile(f"{path}/{name}", filesystem=filesystem) as file:
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["image_id"]).column(0)
                if not pc.any(pc.is_in(ids, pa.array(sorted(wanted), pa.string()))).as_py():
                    continue
                for row in file.read_row_group(group).to_pylist():
                    if row["image_id"] in wanted and row["image"] is not None and row["image"]["bytes"] is not None:
                        yield row, decode_image(row["image"]["bytes"])


def _kinds(image_id: str, able: Sequence[str], most: int) -> list[str]:
    """The kinds that are used on an image, by hash, of those that can be."""
    return sorted(able, key=lambda kind: uniform_from("constructed-kind", image_id, kind))[:most]


class SimilarPrompts:
    """For each prompt the one with the most words in common, of some that are drawn by hash, within its split."""

    def __init__(self, prompts: dict[str, dict[str, Any]], chosen: dict[str, list[dict[str, Any]]]) -> None:
        self._words = {name: frozenset(normalised(row["prompt"]).split()) for name, row in prompts.items()}
        self._chosen = chosen
        self._splits: dict[str, list[str]] = defaultdict(list)
        for name in sorted(chosen):
            self._splits[prompts[name]["split"]].append(name)
        self._split_of = {name: row["split"] for name, row in prompts.items()}
        self._found: dict[str, str | None] = {}

    def of(self, prompt_id: str) -> str | None:
        """The id of the most similar prompt with other words; None where there is none."""
        if prompt_id not in self._found:
            own, pool = self._words[prompt_id], self._splits[self._split_of[prompt_id]]
            rng = np.random.default_rng(seed_from("constructed-prompt", prompt_id))
            drawn = [pool[place] for place in rng.permutation(len(pool))[:_CANDIDATES]]
            others = [name for name in drawn if self._words[name] != own]
            self._found[prompt_id] = max(
                others, key=lambda name: len(own & self._words[name]) / len(own | self._words[name]), default=None
            )
        return self._found[prompt_id]

    def image(self, original: dict[str, Any]) -> dict[str, Any]:
        """An image of the most similar prompt, by the same generator where there is one."""
        rows = self._chosen[self.of(original["prompt_id"]) or original["prompt_id"]]
        return next((row for row in rows if row["generator"] == original["generator"]), rows[0])
