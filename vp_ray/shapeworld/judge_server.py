"""The judge as a process: in the foreground (`serve`), or beside a run while that needs it (`running_judge`)."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final, cast

from vp_ray.errors import AnnotatorError
from vp_ray.shapeworld.config import JudgeSettings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import Request

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_PARENT_CHECK_SECONDS: Final = 0.5


def _listen(settings: JudgeSettings) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise AnnotatorError(
            f"the judge cannot listen on {settings.host}:{settings.port} ({error.strerror or error})",
            "Set another port, or 0 for any that is free.",
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}/v1"


def _server(settings: JudgeSettings) -> uvicorn.Server:
    import uvicorn

    from vp_ray.shapeworld.judge_app import create_app

    def hang_up(request: Request) -> None:
        for connection in list(server.server_state.connections):
            if connection.client == request.client:
                connection.transport.abort()

    config = uvicorn.Config(
        create_app(settings, hang_up),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=1,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    return server


def serve(settings: JudgeSettings, ready: Callable[[str], None] | None = None) -> None:
    """Runs the judge in the foreground until it is interrupted.

    `ready` is called with the base URL once the port is open, before that is printed. Raises `AnnotatorError` when
    the address cannot be used.
    """
    with _listen(settings) as listener:
        server = _server(settings)
        if ready is not None:
            ready(_url(listener))
        print(f"judge at {_url(listener)}", flush=True)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def _serve_for(settings: JudgeSettings, listener: socket.socket, parent: int) -> None:
    """Runs the judge on an open socket until it is ended or the process that started it is gone."""
    server = _server(settings)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    server.run(sockets=[listener])


def _wait_until_healthy(process: subprocess.Popen[bytes], listener: socket.socket, errors: IO[bytes]) -> None:
    host, port = listener.getsockname()[:2]
    deadline = time.monotonic() + _START_SECONDS
    problem = f"does not answer within {_START_SECONDS:.0f} s"
    while (left := deadline - time.monotonic()) > 0:
        if process.poll() is not None:
            errors.seek(0)
            words = errors.read().decode(errors="replace").strip().splitlines()
            problem = f"ended with code {process.returncode}: {words[-1] if words else 'it said nothing'}"
            break
        connection = http.client.HTTPConnection(host, port, timeout=min(1.0, left))
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.05)
    raise AnnotatorError(f"the embedded judge {problem}", "Start it alone with `vp-ray judge` to see more.")


@contextmanager
def running_judge(settings: JudgeSettings) -> Iterator[str]:
    """The base URL (`.../v1`) of a judge in a process of its own, which ends with the context or with this process.

    Raises `AnnotatorError` when it does not come up within a minute.
    """
    with _listen(settings) as listener, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - the command is fixed
            [
                sys.executable,
                "-m",
                "vp_ray.shapeworld.judge_server",
                f"--socket={listener.fileno()}",
                f"--parent={os.getpid()}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[listener.fileno()],
            # An interrupt at the keyboard ends the run, which still has answers to collect, and not the judge.
            start_new_session=True,
        )
        try:
            with suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as pipe:
                pipe.write(settings.model_dump_json().encode())
            _wait_until_healthy(process, listener, errors)
            url = _url(listener)
            listener.close()
            yield url
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> None:
    """Entry of the process that `running_judge` starts: settings as JSON on standard input."""
    parser = argparse.ArgumentParser(description="The embedded judge on a socket that is already open.")
    parser.add_argument("--socket", type=int, required=True, help="number of the open file of the listening socket")
    parser.add_argument("--parent", type=int, required=True, help="process with whose end this one ends")
    arguments = parser.parse_args()
    settings = JudgeSettings.load(json.load(sys.stdin), "standard input")
    with socket.socket(fileno=arguments.socket) as listener:
        _serve_for(settings, listener, arguments.parent)


if __name__ == "__main__":
    main()
