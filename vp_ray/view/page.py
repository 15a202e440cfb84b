"""The page's own files, which hold nothing of a run but its name."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from vp_ray.view.reading import ViewData

PAGE: Final = "index.html"
ASSETS: Final = ("view.css", "data.js", "filter.js", "list.js", "detail.js", "main.js")
TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def page_file(name: str, data: ViewData, title: str) -> bytes:
    """The content of `PAGE` or of one of `ASSETS`; raises `KeyError` for another name."""
    if name == PAGE:
        environment = Environment(loader=PackageLoader("vp_ray.view"), autoescape=True, undefined=StrictUndefined)
        return environment.get_template("page.html").render(title=title, aspect=data.aspects[0]).encode()
    if name not in ASSETS:
        raise KeyError(name)
    return (files("vp_ray.view") / "templates" / name).read_bytes()
