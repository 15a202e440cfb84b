"""What the page can filter and show, read from a run as columns; texts and pixels are left where they are.

Letters of shapes: G prompts, I images, P pairs, J judgements, A aspects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vp_ray.errors import InputError
from vp_ray.ids import uniform_from
from vp_ray.pictures import stored_images
from vp_ray.records import ASPECTS, OVERALL, ImageStatus
from vp_ray.storage import Folder, RunFolder, explained
from vp_ray.view.disagreement import Judged, disagreements, judged_levels

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BLUR_BELOW: Final = 2.5
"""Images with a lower mean level of harmlessness are blurred until they are asked for."""
_BLUR_FLAGS: Final = frozenset({"unsafe"})
_LEVELS: Final = ("image_id", "aspect", "level")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every pair of images of one prompt once; columns by aspect are NaN where the aspect has no answer."""

    group_P: Ints
    first_P: Ints
    """Place of the first image among all images."""
    second_P: Ints
    probability: dict[str, Floats]
    """By aspect, (P,): that the first image is preferred."""
    margin: dict[str, Floats]
    disagree: dict[str, NDArray[np.bool_]]
    """By aspect, (P,): whether two judgements put the pair the other way round."""


@dataclass(frozen=True, slots=True)
class ViewData:
    """A run as the page needs it."""

    run: RunFolder
    prompts: pa.Table
    """`prompt_id`, `prompt`, `split`, (G,)."""
    images: pa.Table
    """`pictures.stored_images`, (I,); those of a prompt lie together, in the order of the prompts."""
    start_G: Ints
    """Place of the first image of each prompt, (G + 1,)."""
    pairs: Pairs
    generators: list[str]
    generator_I: Ints
    blurred_I: NDArray[np.bool_]
    statuses: list[str]
    status_G: Ints
    """Bit n is set where a judgement of the prompt has the status `statuses[n]`."""
    judgement_J: Ints
    """Rows of the judgements table, those of a prompt together."""
    judgement_start_G: Ints
    """Place in `judgement_J` of the first judgement of each prompt, (G + 1,)."""
    total: int
    """Prompts with pairs in the run, of which `prompts` may be a part."""

    @property
    def aspects(self) -> list[str]:
        """The aspects that pairs have, overall first."""
        return [aspect for aspect in (OVERALL, *ASPECTS) if aspect in self.pairs.margin]


def read_view(run: RunFolder, most_prompts: int | None = None) -> ViewData:
    """The run whose preferences are finished, or `most_prompts` of its prompts, drawn by hash.

    Raises `StorageError` for a run that is not finished so far, and `InputError` where no pair has both its images.
    """
    run.stage("preferences").finished()
    columns = ("prompt_id", "aspect", "image_id_a", "image_id_b", "probability_a", "margin")
    preferences = run.stage("preferences").read_table("preferences.parquet", columns)
    prompts, total = _prompts(run, preferences, most_prompts)
    images = stored_images(run)
    group = pc.index_in(images["prompt_id"], prompts["prompt_id"].combine_chunks())
    images, group_I = images.filter(pc.is_valid(group)), np.asarray(group.drop_null(), np.int64)
    order = np.argsort(group_I, kind="stable")
    images, group_I = images.take(pa.array(order)).combine_chunks(), group_I[order]
    start_G = np.searchsorted(group_I, np.arange(prompts.num_rows + 1))

    judgements, judgement_J, group_J = _judgements(run, prompts)
    statuses, status_G = _statuses(judgements, judgement_J, group_J, prompts.num_rows)
    judgement_start_G = np.searchsorted(group_J, np.arange(prompts.num_rows + 1))
    slot_I = np.arange(images.num_rows) - start_G[group_I]
    judged = judged_levels(judgements, judgement_J, images["image_id"].combine_chunks(), slot_I)
    prompt_ids = prompts["prompt_id"].combine_chunks()
    pairs = _pairs(preferences, prompt_ids, images, group_I, judged, judgement_start_G, slot_I)
    names = images["generator"].combine_chunks().dictionary_encode()
    return ViewData(
        run=run,
        prompts=prompts,
        images=images,
        start_G=start_G,
        pairs=pairs,
        generators=[str(name) for name in names.dictionary.to_pylist()],
        generator_I=np.asarray(names.indices.fill_null(0), np.int64),
        blurred_I=_blurred(run, images),
        statuses=statuses,
        status_G=status_G,
        judgement_J=judgement_J,
        judgement_start_G=judgement_start_G,
        total=total,
    )


def open_table(folder: Folder, name: str, columns: list[str]) -> pa.Table:
    """Columns of a Parquet file, down to single fields of lists such as `levels.list.element.level`."""
    filesystem, path = folder.filesystem()
    with explained(f"{folder.uri}/{name}"), pq.ParquetFile(f"{path}/{name}", filesystem=filesystem) as file:
        return file.read(columns=columns)


def _prompts(run: RunFolder, preferences: pa.Table, most: int | None) -> tuple[pa.Table, int]:
    prompts = run.source("prompts").read_table("prompts.parquet", ("prompt_id", "prompt", "split"))
    prompts = prompts.filter(pc.is_in(prompts["prompt_id"], preferences["prompt_id"].unique()))
    total = prompts.num_rows
    if most is not None and total > most:
        drawn = [uniform_from("view", prompt_id) for prompt_id in prompts["prompt_id"].to_pylist()]
        prompts = prompts.take(pa.array(np.sort(np.argsort(drawn)[:most])))
    return prompts.combine_chunks(), total


def _judgements(run: RunFolder, prompts: pa.Table) -> tuple[pa.Table, Ints, Ints]:
    """The judgements without their texts, the rows of those of known prompts by prompt, and each one's prompt."""
    folder = run.stage("annotate")
    if folder.manifest() is None or not folder.exists("judgements.parquet"):
        return pa.table({}), np.empty(0, np.int64), np.empty(0, np.int64)
    columns = ["prompt_id", "status", *(f"levels.list.element.{name}" for name in _LEVELS)]
    table = open_table(folder, "judgements.parquet", columns)
    group = pc.fill_null(pc.index_in(table["prompt_id"], prompts["prompt_id"].combine_chunks()), -1)
    group_R = np.asarray(group, np.int64)
    rows = np.argsort(group_R, kind="stable")
    rows = rows[group_R[rows] >= 0]
    return table, rows, group_R[rows]


def _statuses(judgements: pa.Table, rows: Ints, group_J: Ints, prompts: int) -> tuple[list[str], Ints]:
    status_G = np.zeros(prompts, np.int64)
    if not len(rows):
        return [], status_G
    codes = judgements["status"].combine_chunks().take(pa.array(rows)).dictionary_encode()
    np.bitwise_or.at(status_G, group_J, 1 << np.asarray(codes.indices, np.int64))
    return codes.dictionary.to_pylist(), status_G


def _pairs(
    preferences: pa.Table,
    prompt_ids: pa.Array,
    images: pa.Table,
    group_I: Ints,
    judged: Judged,
    judgement_start_G: Ints,
    slot_I: Ints,
) -> Pairs:
    ids = images["image_id"].combine_chunks()
    first, second = (pc.fill_null(pc.index_in(preferences[f"image_id_{side}"], ids), -1) for side in ("a", "b"))
    first_R, second_R = np.asarray(first, np.int64), np.asarray(second, np.int64)
    # A pair that is made of two prompts, or of an edited one, cannot be shown beside the images of one prompt.
    prompt_R = np.asarray(pc.fill_null(pc.index_in(preferences["prompt_id"], prompt_ids), -1), np.int64)
    group_or_none = np.append(group_I, -2)
    known = (group_or_none[first_R] == prompt_R) & (group_or_none[second_R] == prompt_R)
    key_R = first_R * len(ids) + second_R
    keys, place_K = np.unique(key_R[known], return_inverse=True)
    if not len(keys):
        raise InputError(
            "no pair has its prompt and both its images in the run", "Is this the whole run?", "preferences"
        )
    first_P, second_P = keys // len(ids), keys % len(ids)
    aspect_K = np.asarray(preferences["aspect"].to_pylist(), dtype=str)[known]
    values: dict[str, dict[str, Floats]] = {}
    for name, column in (("probability", "probability_a"), ("margin", "margin")):
        value_K = np.asarray(preferences[column].to_numpy(zero_copy_only=False), np.float64)[known]
        values[name] = {}
        for aspect in (OVERALL, *ASPECTS):
            chosen = aspect_K == aspect
            if chosen.any():
                filled = np.full(len(keys), np.nan)
                filled[place_K[chosen]] = value_K[chosen]
                values[name][aspect] = filled
    group_P = group_I[first_P]
    disagree = disagreements(judged, judgement_start_G, group_P, slot_I[first_P], slot_I[second_P])
    none = np.zeros(len(keys), bool)
    return Pairs(
        group_P=group_P,
        first_P=first_P,
        second_P=second_P,
        probability=values["probability"],
        margin=values["margin"],
        disagree={aspect: disagree.get(aspect, none) for aspect in values["margin"]},
    )


def _blurred(run: RunFolder, images: pa.Table) -> NDArray[np.bool_]:
    flagged = np.array([bool(_BLUR_FLAGS.intersection(flags or ())) for flags in images["flags"].to_pylist()], bool)
    missing = np.asarray(pc.not_equal(images["status"], str(ImageStatus.MADE)).fill_null(False), bool)
    folder = run.stage("annotate")
    if folder.manifest() is None or not folder.exists("ratings.parquet"):
        return flagged & ~missing
    ratings: Any = folder.read_table("ratings.parquet", ("image_id", "aspect", "mean"))
    low = ratings.filter(pc.and_(pc.equal(ratings["aspect"], "harmlessness"), pc.less(ratings["mean"], BLUR_BELOW)))
    harmful = np.asarray(pc.is_in(images["image_id"], low["image_id"].combine_chunks()), bool)
    # Images that were made of a harmful one for self-supervised pairs share its prompt, generator and seed.
    kinds = zip(*(images[name].to_pylist() for name in ("prompt_id", "generator", "seed")), strict=True)
    kind_I = list(kinds)
    unfit = {kind for kind, is_harmful in zip(kind_I, harmful, strict=True) if is_harmful and kind[2] is not None}
    return (flagged | harmful | np.array([kind in unfit for kind in kind_I], bool)) & ~missing
