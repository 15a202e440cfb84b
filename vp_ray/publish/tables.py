"""The configs of the published data set, each written split by split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.pictures import PLACE, StoredPictures
from vp_ray.publish.layout import Layout, split_names
from vp_ray.publish.selection import Selection, published_columns
from vp_ray.records import IMAGE, IMAGES, OVERALL, PROMPTS
from vp_ray.storage import RunFolder

Progress = Callable[[int], None]

_PRIVATE: Final = ("reply", "error")
"""Columns of judgements that may quote addresses, accounts or keys, as providers' error messages do."""

PICK_A_PIC: Final = pa.schema(
    [
        ("caption", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("probability_0", pa.float64()),
        ("are_different", pa.bool_()),
        ("has_label", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("image_0_uid", pa.string()),
        ("image_1_uid", pa.string()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.string()),
        ("num_example_per_prompt", pa.int64()),
        ("source", pa.string()),
    ]
)
"""The columns of Pick-a-Pic that training scripts read; pictures are plain bytes there, and labels 1, 0 or 0.5."""


class Tables:
    """Writes a selection of a run as configs of a data set."""

    def __init__(self, run: RunFolder, selection: Selection, layout: Layout) -> None:
        self._run, self._selection, self._layout = run, selection, layout
        self._pictures = StoredPictures()
        self._image_ids = selection.images["image_id"].combine_chunks()
        self.preferences = self._preferences()
        self.split_of = split_of_prompts(selection, self.preferences)
        self._splits = split_names(sorted(set(self.split_of.values()), key=_train_first))

    def write_prompts(self, raw: bool) -> None:
        """The config `prompts`."""
        names = [name for name in PROMPTS.names if raw or name != "prompt_raw"]
        self._write("prompts", _in_schema(self._selection.prompts, PROMPTS).select(names))

    def write_images(self, progress: Progress) -> None:
        """The config `images`, with pixels."""
        schema = pa.schema([IMAGES.field(name) for name in published_columns()] + [IMAGES.field("image")])
        for split, rows in self._by_split(self._selection.images):
            with self._layout.writer("images", self._splits[split], schema) as writer:
                for start in range(0, rows.num_rows, writer.rows_per_row_group):
                    part = rows.slice(start, writer.rows_per_row_group)
                    names = part["image_id"].to_pylist()
                    pixels = [
                        {"bytes": data, "path": f"{name}.{_ending(data)}"}
                        for name, data in zip(names, self._pixels(part), strict=True)
                    ]
                    writer.write(part.select(published_columns()).append_column("image", pa.array(pixels, IMAGE)))
                    progress(part.num_rows)

    def write_judgements(self) -> None:
        """The config `judgements`, where annotators were asked: levels and rationales, without raw replies."""
        folder = self._run.stage("annotate")
        if folder.manifest() is None or not folder.exists("judgements.parquet"):
            return
        table = folder.read_table("judgements.parquet")
        table = table.select([name for name in table.column_names if name not in _PRIVATE])
        table = table.set_column(
            table.column_names.index("levels"), table.schema.field("levels"), self._published_levels(table["levels"])
        )
        self._write("judgements", table)

    def write_answers(self) -> None:
        """The configs `rankings` and `comparisons` of an import, with people's names replaced by numbers."""
        source = self._run.source("annotate")
        for config in ("rankings", "comparisons"):
            if not source.exists(f"{config}.parquet"):
                continue
            table = source.read_table(f"{config}.parquet")
            for column in table.column_names:
                if column.startswith("image_id"):
                    table = table.filter(pc.is_in(table[column], self._image_ids))
            raters = table["rater"].combine_chunks().dictionary_encode().indices
            place = table.column_names.index("rater")
            self._write(config, table.set_column(place, "rater", pc.cast(raters, pa.string())))

    def write_preferences(self) -> None:
        """The config `preferences`: every pair, aspect by aspect, by ids."""
        self._write("preferences", self.preferences.drop_columns(["split"]))

    def write_pick_a_pic(self, progress: Progress) -> None:
        """The config `pick_a_pic`: the pairs of the aspect overall with both pictures, as Pick-a-Pic lays them out."""
        overall = self.preferences.filter(pc.equal(self.preferences["aspect"], OVERALL))
        counts = {row["values"]: row["counts"] for row in overall["prompt_id"].value_counts().to_pylist()}
        place = pc.index_in(overall["prompt_id"], self._selection.prompts["prompt_id"].combine_chunks())
        overall = overall.take(pc.sort_indices(pa.table({"place": place}), [("place", "ascending")]))
        for split, rows in self._by_split(overall):
            with self._layout.writer("pick_a_pic", self._splits[split], PICK_A_PIC) as writer:
                for start in range(0, rows.num_rows, writer.rows_per_row_group):
                    part = rows.slice(start, writer.rows_per_row_group)
                    writer.write(self._pick_a_pic(part, counts))
                    progress(part.num_rows)

    def _pick_a_pic(self, rows: pa.Table, counts: dict[str, int]) -> pa.Table:
        first, second = rows["image_id_a"], rows["image_id_b"]
        probability = np.asarray(rows["probability_a"])
        label = np.where(probability == 0.5, 0.5, probability > 0.5).astype(np.float64)
        tied = pa.array(label == 0.5)
        best = pc.if_else(pa.array(label > 0.5), first, second)
        columns: dict[str, Any] = {
            "caption": rows["prompt"],
            "jpg_0": pa.array(self._pixels_of(first), pa.binary()),
            "jpg_1": pa.array(self._pixels_of(second), pa.binary()),
            "label_0": label,
            "label_1": 1 - label,
            "probability_0": probability,
            "are_different": pa.array([True] * len(label)),
            "has_label": pa.array([True] * len(label)),
            "best_image_uid": pc.if_else(tied, "tie", best),
            "image_0_uid": first,
            "image_1_uid": second,
            "model_0": rows["generator_a"],
            "model_1": rows["generator_b"],
            "ranking_id": rows["preference_id"],
            "num_example_per_prompt": pa.array([counts[name] for name in rows["prompt_id"].to_pylist()], pa.int64()),
        }
        known = "source" in rows.column_names
        columns["source"] = rows["source"] if known else pa.nulls(rows.num_rows, pa.string())
        return pa.table(columns)

    def _preferences(self) -> pa.Table:
        """The pairs of which both images are published, with the generators of both."""
        table = self._run.stage("preferences").read_table("preferences.parquet")
        places = [pc.index_in(table[f"image_id_{side}"], self._image_ids) for side in ("a", "b")]
        generators = self._selection.images["generator"]
        for side, place in zip(("a", "b"), places, strict=True):
            name = f"generator_{side}"
            if name not in table.column_names:
                table = table.append_column(name, generators.take(place))
        refused = pc.is_in(table["prompt_id"], pa.array(sorted(self._selection.refused), pa.string()))
        return table.filter(pc.and_(pc.and_(pc.is_valid(places[0]), pc.is_valid(places[1])), pc.invert(refused)))

    def _published_levels(self, column: pa.ChunkedArray) -> pa.Array:
        """The levels of published images only; a judgement keeps its row."""
        lists = column.combine_chunks()
        flat, parents = lists.flatten(), np.asarray(pc.list_parent_indices(lists), np.int64)
        kept = np.asarray(pc.is_in(flat.field("image_id"), self._image_ids), bool)
        counts = np.bincount(parents[kept], minlength=len(lists))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, flat.filter(pa.array(kept)), type=lists.type)

    def _write(self, config: str, table: pa.Table) -> None:
        for split, rows in self._by_split(table):
            with self._layout.writer(config, self._splits[split], table.schema.remove_metadata()) as writer:
                writer.write(rows)

    def _by_split(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """The rows of each split that has some; rows of prompts that are left out belong to none."""
        splits = pa.array([self.split_of.get(name) for name in table["prompt_id"].to_pylist()], pa.string())
        for split in self._splits:
            rows = table.filter(pc.fill_null(pc.equal(splits, split), False))
            if "split" in rows.column_names:
                named = pa.array([self._splits[split]] * rows.num_rows, pa.string())
                rows = rows.set_column(rows.column_names.index("split"), "split", named)
            if rows.num_rows:
                yield split, rows

    def _pixels_of(self, image_ids: pa.ChunkedArray) -> list[bytes]:
        return self._pixels(self._selection.images.take(pc.index_in(image_ids, self._image_ids)))

    def _pixels(self, images: pa.Table) -> list[bytes]:
        columns = (images[name].to_pylist() for name in ("folder", *PLACE))
        return [self._pictures.read(*place) for place in zip(*columns, strict=True)]


def _ending(data: bytes) -> str:
    """The usual ending of the name of an image file, by its first bytes."""
    return "jpg" if data.startswith(b"\xff\xd8") else "webp" if data[8:12] == b"WEBP" else "png"


def split_of_prompts(selection: Selection, preferences: pa.Table) -> dict[str, str]:
    """The split of each published prompt; that of its pairs stands, since they may be split by clusters of prompts.

    Prompts that only pairs have, which were made by editing another one, are published with them.
    """
    prompts = selection.prompts
    named = dict(zip(prompts["prompt_id"].to_pylist(), prompts["split"].to_pylist(), strict=True))
    paired = zip(preferences["prompt_id"].to_pylist(), preferences["split"].to_pylist(), strict=True)
    named |= {prompt_id: split for prompt_id, split in paired if split and prompt_id not in selection.refused}
    return {prompt_id: split or "train" for prompt_id, split in named.items()}


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table's columns in a schema's order; columns that an older run lacks are null."""
    columns = [
        table[item.name] if item.name in table.column_names else pa.nulls(table.num_rows, item.type) for item in schema
    ]
    return pa.table(columns, schema=schema)


def _train_first(split: str) -> tuple[bool, str]:
    return split != "train", split
