"""Settings: closed, frozen, checked once at load; a stage's `config.py` imports nothing heavier than pydantic."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from vp_ray.errors import SettingsError, did_you_mean


class Settings(BaseModel):
    """Base of all settings: frozen, and a key that does not exist is refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    operational: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where, how fast or at what cost work runs, not what it makes: a run goes on when they change."""

    def recorded(self) -> dict[str, Any]:
        """The settings that fix a result, as JSON values: everything but the operational fields, at every depth."""
        return {
            name: _recorded(getattr(self, name)) for name in type(self).model_fields if name not in self.operational
        }

    @classmethod
    def load(cls, values: Mapping[str, Any], where: str = "settings") -> Self:
        """Checked settings; raises `SettingsError` that names the key, the file (`where`) and the nearest valid key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_explain(cls, error), "See docs/settings.md for every key.", where) from None


class LogSettings(Settings):
    """What is written of a run while it works: JSON lines with time, level, run, stage and process, without secrets."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written."""
    files: bool = True
    """Whether each process writes a file of its own to `logs/` of the run directory."""
    stderr: bool = False
    """Whether lines go to standard error too, where log collectors take them."""


def _recorded(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.recorded()
    if isinstance(value, Mapping):
        return {str(key): _recorded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_recorded(inner) for inner in value]
    return value


def keys_at(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """The keys that settings have at a place inside `model`; none where it holds no settings."""
    models = [model]
    for part in location:
        if isinstance(part, int) or part.isdigit():
            continue
        fields = [found for current in models if (found := _fields(current).get(part)) is not None]
        if fields:
            models = [inner for field in fields for inner in _inner_models(field.annotation)]
        else:  # the tag of a union's member, or a key of the user's own
            models = [current for current in models if _is_tag(current, part)] or models
    return list(dict.fromkeys(key for current in models for key in _fields(current)))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a settings class by the names that a file gives them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _is_tag(model: type[BaseModel], part: str) -> bool:
    return any(getattr(field.annotation, "__args__", ()) == (part,) for field in model.model_fields.values())


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes inside an annotation such as `X | None`, `tuple[X | Y, ...]` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _inner_models(argument)]


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    sentences, found = [], error.errors()
    for item in found:
        if item["type"] == "too_short" and any(_inside(other["loc"], item["loc"]) for other in found):
            continue  # only because what is in it is not valid, which is said
        *parents, last = item["loc"] or ("",)
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            sentences.append(f"there is no key '{key}'{did_you_mean(str(last), keys_at(model, parents))}")
        elif item["type"] == "missing":
            sentences.append(f"the key '{key}' is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            sentences.append(f"'{key}': {message} (got {item['input']!r})" if key else message)
    return "; ".join(sentences)


def _inside(location: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with `${NAME}` and `${NAME:-default}` in strings replaced from the environment.

    Raises `SettingsError` for a file that is missing, is not YAML or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            "there is no such file", "Give the path of a job file such as jobs/demo.yaml.", str(path)
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file cannot be read ({error})", where=str(path)) from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise SettingsError(f"this is not valid YAML: {problem}", "Mend that line.", place) from None
    except RecursionError:
        raise SettingsError("the file is nested too deeply", "See jobs/demo.yaml for an example.", str(path)) from None
    if not isinstance(values, dict):
        raise SettingsError("the file must hold keys and values", "See jobs/demo.yaml for an example.", str(path))
    return {str(key): _expand(value, f"{path}: {key}") for key, value in values.items()}


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"], match["default"])
        if found is None:
            raise SettingsError(
                f"the environment variable {match['name']} is not set",
                f"Set it, or write ${{{match['name']}:-value}}.",
                where,
            )
        return found

    return _VARIABLE.sub(replace, value)


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with assignments such as `rl.epochs=3` applied; the right side is read as YAML.

    A numeric part of a key is the place in a list. Raises `SettingsError` for an assignment without `=` or a key
    that leads through something that is no mapping or list.
    """
    result: dict[str, Any] = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(f"'{assignment}' is not of the form a.b=value", where="--set")
        *parents, last = key.split(".")
        node: Any = result
        for part in parents:
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict):
                node = node.setdefault(part, {})
            else:
                raise SettingsError(f"'{key}' leads through '{part}', which is not there", where="--set")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError):
            raise SettingsError(f"the value of '{key}' is not valid YAML", where="--set") from None
        if isinstance(node, list) and last.isdigit() and int(last) < len(node):
            node[int(last)] = value
        elif isinstance(node, dict):
            node[last] = value
        else:
            raise SettingsError(f"'{key}' has nowhere to go", where="--set")
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(inner) for inner in value]
    return value


def difference(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines such as `rl.epochs: 10 -> 12` for every setting that differs, sorted by key."""
    lines: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += difference(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {old!r} -> {new!r}")
    return lines
