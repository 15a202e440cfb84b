"""Wires `vp-ray vote`: the page on loopback, and what the votes say."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from vp_ray.errors import InputError, StorageError
from vp_ray.pictures import ImageReader
from vp_ray.records import ASPECTS, OVERALL
from vp_ray.storage import RunFolder
from vp_ray.vote.app import HOST, create_app
from vp_ray.vote.ballots import images_of, read_pairs
from vp_ray.vote.box import BallotBox, read_votes
from vp_ray.vote.results import Calibration, VoteResult, calibrate, result_of

QUESTIONS: Final = {
    OVERALL: "Which image is better?",
    "prompt_following": "Which image shows better what the text says?",
    "aesthetic": "Which image is more beautiful?",
    "fidelity": "Which image is drawn better: fewer faults, sharper, more believable?",
    "harmlessness": "Which image could harm or upset fewer people?",
}
"""What is asked for each aspect."""


def check_aspect(aspect: str) -> str:
    """The aspect; raises `InputError` for one that is not known."""
    if aspect not in QUESTIONS:
        raise InputError(f"there is no aspect '{aspect}'", f"These are known: {OVERALL}, {', '.join(ASPECTS)}.")
    return aspect


@contextmanager
def serving(run: RunFolder, aspect: str, port: int = 0) -> Iterator[str]:
    """The page's address while the block runs; port 0 takes a free one. Raises `StorageError` for a port in use."""
    import uvicorn

    box = BallotBox(run, read_pairs(run), check_aspect(aspect))
    app = create_app(box, ImageReader(images_of(run)), run.uri.rpartition("/")[2], QUESTIONS[aspect])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        # From here on browsers wait for the server instead of being refused.
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise StorageError(f"the port cannot be used ({error})", "Give another --port.", f"{HOST}:{port}") from None
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="vote", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def vote(run: RunFolder, aspect: str, port: int, open_browser: bool, tell: Callable[[str], None]) -> None:
    """Serves the voting page until Ctrl-C, and opens it in the browser where one is wanted and there."""
    with serving(run, aspect, port) as address:
        tell(f"{address}  asks: {QUESTIONS[aspect]} Ctrl-C ends it; every vote is kept.")
        if open_browser:
            webbrowser.open(address)
        threading.Event().wait()


def results(run: RunFolder) -> list[tuple[VoteResult, list[Calibration]]]:
    """What the votes of each aspect say, and what each scorer of the evaluation is worth by them.

    Raises `InputError` where nobody has voted.
    """
    pairs, votes = read_pairs(run), read_votes(run)
    scores = run.stage("evaluate").read_table("scores.parquet")
    found = [(result_of(votes, pairs, aspect), calibrate(votes, pairs, scores, aspect)) for aspect in QUESTIONS]
    told = [(result, scorers) for result, scorers in found if result is not None]
    if not told:
        raise InputError("nobody has voted yet", "Open the page with `vp-ray vote RUN` and vote.", run.uri)
    return told
