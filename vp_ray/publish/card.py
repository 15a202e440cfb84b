"""The data set card: README.md with a YAML head that the Hub reads and a text that people read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from vp_ray.publish.config import ExportSettings
from vp_ray.publish.facts import Facts
from vp_ray.publish.layout import Layout, yaml_features

_SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
DEFAULT_CONFIG: Final = "preferences"
NOT_SAFE: Final = "not-for-all-audiences"

DESCRIPTIONS: Final = {
    "prompts": "the prompts",
    "images": "the images with how each was drawn",
    "judgements": "each answer of an annotator: the order in which it saw the images, a level of 1 to 5 and a "
    "rationale for each image and aspect (or the better of two), or a status that says why there is none",
    "rankings": "people's ranks of the images of a prompt",
    "comparisons": "choices between two images, of people or of an annotator",
    "preferences": "every pair of images of a prompt, aspect by aspect, with the probability that the first is "
    "preferred",
    "pick_a_pic": "the pairs of the aspect overall with both pictures, in the columns of Pick-a-Pic",
}


def card(settings: ExportSettings, title: str, facts: Facts, layout: Layout) -> str:
    """README.md of the data set."""
    environment = Environment(  # noqa: S701 - Markdown; the template escapes what the run says  # nosec B701
        loader=PackageLoader("vp_ray.publish"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    head = yaml.safe_dump(front_matter(settings, title, facts, layout), sort_keys=False, allow_unicode=True, width=110)
    text = environment.get_template("card.md").render(
        settings=settings, title=title, facts=facts, descriptions=DESCRIPTIONS
    )
    return f"---\n{head}---\n\n{text}"


def front_matter(settings: ExportSettings, title: str, facts: Facts, layout: Layout) -> dict[str, Any]:
    """The card's YAML: licence, language, tasks, configs with the files of each split, and their columns."""
    rows = sum(file.rows for file in layout.files if file.config == DEFAULT_CONFIG)
    by_machine = bool(facts.annotators)
    people = not by_machine and any(config in layout.schemas for config in ("rankings", "comparisons"))
    creators = [*(["machine-generated"] if by_machine else []), *(["crowdsourced"] if people else [])]
    tags = ["preferences", "human-preference-alignment", "rlaif", "image", "croissant"]
    return {
        "pretty_name": title,
        "license": settings.licence or "other",
        **({} if settings.licence else {"license_name": "not-stated"}),
        "language": list(settings.languages),
        "task_categories": ["text-to-image", "image-classification"],
        "annotations_creators": creators or ["no-annotation"],
        "source_datasets": ["original"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), "n>100M")],
        "tags": [*tags, *([NOT_SAFE] if facts.harmful else [])],
        "configs": [_config(name, layout) for name in layout.schemas],
        "dataset_info": [_info(name, layout) for name in layout.schemas],
    }


def _config(name: str, layout: Layout) -> dict[str, Any]:
    files = [{"split": split, "path": f"{name}/{split}-*.parquet"} for split in layout.splits(name)]
    return {"config_name": name, **({"default": True} if name == DEFAULT_CONFIG else {}), "data_files": files}


def _info(name: str, layout: Layout) -> dict[str, Any]:
    splits = layout.splits(name)
    return {
        "config_name": name,
        "features": yaml_features(layout.schemas[name]),
        "splits": [
            {
                "name": split,
                "num_bytes": sum(file.uncompressed for file in files),
                "num_examples": sum(file.rows for file in files),
            }
            for split, files in splits.items()
        ],
        "download_size": sum(file.size for files in splits.values() for file in files),
        "dataset_size": sum(file.uncompressed for files in splits.values() for file in files),
    }


def cell(value: Any) -> str:
    """Text that cannot leave its table cell nor become markup; an en dash for what is not there."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        ends = [f"{item:g}" if isinstance(item, int | float) else str(item) for item in value]
        text = ends[0] if len(set(ends)) == 1 else " to ".join(ends)
    else:
        text = str(value)
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "'"), ("[", "\\[")):
        text = text.replace(sign, safe)
    return " ".join(text.split())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _count(value: Any) -> str:
    return f"{value:,}" if _is_number(value) else cell(None)


def _share(value: Any) -> str:
    return f"{100 * value:.1f} %" if _is_number(value) else cell(None)


def _number(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if _is_number(value) else cell(None)


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


_FILTERS: Final[dict[str, Callable[..., str]]] = {
    "cell": cell,
    "count": _count,
    "share": _share,
    "number": _number,
    "usd": _usd,
    "words": _words,
}
