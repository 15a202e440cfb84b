"""Which prompts leak: from one split into another, and from public tests into this data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.maths.duplicates import NearDuplicates
from vp_ray.preferences.config import CheckSettings
from vp_ray.preferences.prompt_lists import read_prompt_list

_EXAMPLES: Final = 10


def checked_prompts(prompts: pa.Table, used: Sequence[str], settings: CheckSettings) -> tuple[pa.Table, dict[str, Any]]:
    """The prompts that pairs may use, with their splits, and the parts `splits` and `overlap` of `quality.json`.

    Only the prompts with these ids, of which answers are there, are looked at and returned; with `split_by: clusters`
    near-duplicates share a split, and with `on_overlap: remove` those that are on a list are left out.
    """
    # In the order of their ids, which are hashes: the first of a cluster is a fair draw.
    prompts = prompts.filter(pc.is_in(prompts["prompt_id"], pa.array(used, pa.string()))).sort_by("prompt_id")
    texts = prompts["prompt"].to_pylist()
    index = NearDuplicates(texts, settings.near_duplicate)
    cluster = index.clusters()
    overlap, listed = _overlap(index, texts, settings)
    split = np.array(prompts["split"].to_pylist(), np.str_)
    moved = 0
    if settings.split_by == "clusters" and len(split):
        moved = int((split != split[cluster]).sum())
        split = split[cluster]
        place = prompts.schema.get_field_index("split")
        prompts = prompts.set_column(place, "split", pa.array(split.tolist(), pa.string()))
    found = {"splits": _leaks(texts, split, cluster) | {"prompts_moved": moved}, "overlap": overlap}
    if settings.on_overlap == "remove":
        prompts = prompts.filter(pa.array([place not in listed for place in range(len(texts))], pa.bool_()))
    return prompts, found


def _leaks(texts: list[str], split: np.ndarray[Any, Any], cluster: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Clusters by their number, and those that reach into more than one split, with examples."""
    names, counts = np.unique(split, return_counts=True)
    members: dict[int, list[int]] = {}
    for place, root in enumerate(cluster.tolist()):
        members.setdefault(root, []).append(place)
    leaking = [places for places in members.values() if len({split[place] for place in places}) > 1]
    return {
        "prompts": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "clusters": len(members),
        "largest_cluster": max((len(places) for places in members.values()), default=0),
        "near_duplicates": sum(len(places) - 1 for places in members.values()),
        "clusters_in_several_splits": len(leaking),
        "prompts_in_these": sum(len(places) for places in leaking),
        "examples": [
            [{"prompt": texts[place], "split": str(split[place])} for place in places[:4]]
            for places in leaking[:_EXAMPLES]
        ],
    }


def _overlap(index: NearDuplicates, texts: list[str], settings: CheckSettings) -> tuple[dict[str, Any], set[int]]:
    found: dict[str, Any] = {}
    listed: set[int] = set()
    for name, place in settings.test_prompts.items():
        wanted = read_prompt_list(name, place)
        equal, near = index.matches(wanted)
        listed |= equal | near
        found[name] = {
            "list": len(wanted),
            "equal": len(equal),
            "near": len(near),
            "examples": [texts[place] for place in sorted(equal | near)[:_EXAMPLES]],
        }
    return {"lists": found, "prompts": len(listed), "removed": settings.on_overlap == "remove"}, listed
