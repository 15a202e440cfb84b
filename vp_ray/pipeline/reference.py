"""The reference of all settings, out of their docstrings: `python -m vp_ray.pipeline.reference > docs/settings.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vp_ray.pipeline.settings import JobSettings
from vp_ray.publish.config import ExportSettings
from vp_ray.tables.config import TablesSettings


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes inside an annotation, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not getattr(annotation, "__args__", ()):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None").replace("|", "or")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value, default=str)}`"


def _section(model: type[BaseModel]) -> Iterator[str]:
    yield f"\n## {model.__name__}\n"
    yield f"{(model.__doc__ or '').strip()}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        nested = list(dict.fromkeys(_models(field.annotation)))
        kind = ", ".join(f"[{inner.__name__}](#{inner.__name__.lower()})" for inner in nested)
        meaning = " ".join((field.description or "").split()).replace("|", "or")
        yield f"| `{field.alias or name}` | {kind or _type_name(field.annotation)} | {_default(field)} | {meaning} |"


def _reached(roots: tuple[type[BaseModel], ...]) -> list[type[BaseModel]]:
    """The settings classes that each root leads to, itself first, breadth first; each once."""
    found: dict[type[BaseModel], None] = {}
    for root in roots:
        waiting = [root]
        while waiting:
            model = waiting.pop(0)
            if model not in found:
                found[model] = None
                waiting += [inner for field in model.model_fields.values() for inner in _models(field.annotation)]
    return list(found)


def reference() -> str:
    """Markdown: the job file's keys, every settings class that it leads to, then those of `vp-ray export` and of
    `vp-ray tables`."""
    where = "Every key of a job file, and at the end those of `vp-ray export` and `vp-ray tables`."
    lines = ["# Settings", "", f"{where} Made by `python -m vp_ray.pipeline.reference`."]
    for model in _reached((JobSettings, ExportSettings, TablesSettings)):
        lines += _section(model)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
