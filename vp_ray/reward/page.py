"""The service's own pages: one at `/` to try the models, and the reference at `/docs`; neither needs a network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

from fastapi import FastAPI, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

_TYPES: Final = {"css": "text/css", "js": "text/javascript"}
_ASSETS: Final = ("score.css", "score.js")
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_pages(app: FastAPI, *dependencies: Any) -> None:
    """Adds the routes of the pages, which are not part of the OpenAPI document."""
    options: dict[str, Any] = {"include_in_schema": False, "dependencies": list(dependencies)}

    @app.get("/", **options)
    async def page() -> Response:
        return _sent(_template("score.html", {}), "text/html")

    @app.get("/docs", **options)
    async def docs() -> Response:
        return _sent(_template("docs.html", {"api": app.openapi()}), "text/html")

    for name in _ASSETS:
        app.add_api_route(f"/{name}", _asset(name), **options)


def _asset(name: str) -> Any:
    async def asset() -> Response:
        return _sent(_file(name), _TYPES[name.rpartition(".")[2]])

    return asset


@cache
def _file(name: str) -> bytes:
    return (files("vp_ray.reward") / "templates" / name).read_bytes()


def _template(name: str, values: dict[str, Any]) -> bytes:
    environment = Environment(loader=PackageLoader("vp_ray.reward"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name).render(**values).encode()


def _sent(content: bytes, kind: str) -> Response:
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)
