"""Serve's own start and end: a proxy for HTTP where one is wanted, applications that leave nothing behind."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Final

from ray import serve
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from vp_ray.addresses import is_loopback
from vp_ray.errors import ClusterError, SettingsError

LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 600.0


def start_serve(http: tuple[str, int] | None) -> None:
    """Starts Serve with its HTTP proxy on (host, port), or without one; raises `ClusterError` for a port in use."""
    logging.getLogger(SERVE_LOGGER_NAME).setLevel(logging.WARNING)
    if http is None:
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        return
    host, port = http
    _check_free(host, port)
    options = {"host": host, "port": port}
    serve.start(
        proxy_location="HeadOnly",
        http_options=options,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )


def _check_free(host: str, port: int) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        problem = f"it cannot be listened on ({error.strerror or error})"
        raise ClusterError(problem, "Give another --host or --port.", f"{host}:{port}") from None


def proxy_host() -> str:
    """Where the cluster's Serve proxies listen; asked by a replica of itself."""
    client = _get_global_client()
    host: str | None = client.http_config.host if client is not None else None
    return host or LOOPBACK


def check_open(host: str, token: str | None) -> None:
    """Raises `SettingsError` for a service that other machines reach and that asks for no token."""
    if token is None and not is_loopback(host):
        raise SettingsError(
            "a service that other machines can reach needs a token",
            "Set service.token_env (--token-env NAME) to an environment variable with a secret, or listen on loopback.",
            f"host {host}",
        )


def deploy(application: serve.Application, deployment: str, app_name: str, route: str | None, where: str) -> None:
    """Starts an application and waits until its deployment of that name answers `aspects`; without a route it takes no
    HTTP. Raises `ClusterError`, which names `where`, when no replica came up.
    """
    try:
        serve.run(application, name=app_name, route_prefix=route)
        serve.get_deployment_handle(deployment, app_name).aspects.remote().result(timeout_s=_START_SECONDS)
    except (RuntimeError, TimeoutError) as error:
        remove_app(app_name)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ClusterError(f"the reward service did not start ({reason})", "Look at the Serve logs.", where) from error


def remove_app(app_name: str) -> None:
    """Deletes an application and waits for its replicas to end."""
    # A handle reports to the controller from a thread, and that thread would start a Ray of its own once this process
    # has left the cluster.
    application = serve.status().applications.get(app_name)
    for deployment in application.deployments if application is not None else ():
        with suppress(RayServeException, KeyError):
            serve.get_deployment_handle(deployment, app_name).shutdown()
    serve.delete(app_name)
