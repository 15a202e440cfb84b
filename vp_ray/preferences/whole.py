"""Judgements of one aspect each put together to judgements of all aspects, so that all is read the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.records import ASPECTS, Status


def whole_judgements(judgements: pa.Table) -> pa.Table:
    """The judgements that levels were asked for; those of one annotator, order and sample are one row.

    Its levels are those of all its aspects, image by image in the order shown; it has the status of the part that was
    not scored, where there is one, and the time of the last.
    """
    if "aspects" not in judgements.schema.names:
        return judgements
    judgements = judgements.filter(pc.fill_null(pc.not_equal(judgements["mode"], "pairwise"), True)).combine_chunks()
    asked_R = pc.fill_null(pc.list_value_length(judgements["aspects"]), len(ASPECTS))
    if not judgements.num_rows or pc.min(asked_R).as_py() == len(ASPECTS):
        return judgements
    sample = pc.cast(pc.fill_null(judgements["sample"], 0), pa.string())
    order = pc.binary_join(judgements["order"], "/")
    key = pc.binary_join_element_wise(judgements["annotator"], judgements["prompt_id"], order, sample, "|")
    group_R = np.asarray(key.combine_chunks().dictionary_encode().indices, np.int64)
    first_G = np.unique(group_R, return_index=True)[1]
    whole = judgements.take(pa.array(first_G))

    lists = judgements["levels"].combine_chunks()
    flat, row_N = lists.flatten(), np.asarray(pc.list_parent_indices(lists), np.int64)
    aspect_N = np.asarray(pc.index_in(flat.field("aspect"), pa.array(ASPECTS)), np.int64)
    given_R = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    within_N = np.arange(len(row_N)) - np.repeat(np.cumsum(given_R) - given_R, given_R)
    slot_N = within_N // np.asarray(asked_R, np.int64)[row_N]
    by_image = np.lexsort((aspect_N, slot_N, group_R[row_N]))
    counts = np.bincount(group_R[row_N], minlength=len(first_G))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    levels = pa.ListArray.from_arrays(offsets, flat.take(pa.array(by_image)), type=lists.type)

    status_R = np.array(judgements["status"].to_pylist(), np.object_)
    status_G = status_R[first_G]
    open_R = np.flatnonzero(status_R != str(Status.SCORED))
    status_G[group_R[open_R]] = status_R[open_R]
    time_G = np.full(len(first_G), -np.inf)
    at = judgements["answered_at"].to_numpy()
    np.fmax.at(time_G, group_R, np.asarray(at, np.float64))
    columns = {
        "levels": levels,
        "status": pa.array(status_G, pa.string()),
        "answered_at": pa.array(np.where(np.isfinite(time_G), time_G, np.nan), pa.float64(), from_pandas=True),
        "aspects": pa.array([list(ASPECTS)] * len(first_G), pa.list_(pa.string())),
    }
    for name, column in columns.items():
        whole = whole.set_column(whole.schema.get_field_index(name), judgements.schema.field(name), column)
    return whole
