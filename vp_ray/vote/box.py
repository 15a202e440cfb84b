"""The ballot box: votes as rows of `records.COMPARISONS`, each on disk before it is counted."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import pyarrow as pa

from vp_ray.errors import InputError
from vp_ray.records import COMPARISONS
from vp_ray.storage import Folder, RunFolder
from vp_ray.vote.ballots import Ballot, Pair, ballots_of

Choice = Literal["left", "right", "tie", "skip"]

PREFERRED: Final[dict[Choice, float | None]] = {"left": 1.0, "right": 0.0, "tie": 0.5, "skip": None}
"""What a choice says of the image that was shown on the left; a skip is an abstention."""

_RATER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def votes_of(run: RunFolder) -> Folder:
    """Where votes lie: one file of JSON lines a rater and aspect."""
    return run / "votes"


def check_rater(name: str) -> str:
    """The name, if it can name a file; raises `InputError` else."""
    if not _RATER.fullmatch(name):
        raise InputError("this is no name for a rater", "Use 1 to 40 letters, digits, dots, dashes or underscores.")
    return name


def read_votes(run: RunFolder) -> pa.Table:
    """All votes of all raters as `records.COMPARISONS`, in the order of raters, aspects and answers."""
    folder = votes_of(run)
    rows = [
        json.loads(line)
        for name in folder.names()
        if name.endswith(".jsonl")
        for line in folder.read_bytes(name).splitlines()
    ]
    return pa.Table.from_pylist([{key: row.get(key) for key in COMPARISONS.names} for row in rows], schema=COMPARISONS)


class BallotBox:
    """The votes of one aspect of one run; safe to use from several threads."""

    def __init__(self, run: RunFolder, pairs: Sequence[Pair], aspect: str) -> None:
        self.aspect = aspect
        self._folder = votes_of(run).make()
        self._pairs = pairs
        self._ballots: dict[str, list[Ballot]] = {}
        self._votes: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def next(self, rater: str) -> tuple[Ballot | None, int, int]:
        """(the rater's next ballot, how many are answered, how many there are); None when all are answered."""
        with self._lock:
            ballots, votes = self._of(rater)
            answered = {(vote["image_id_a"], vote["image_id_b"]) for vote in votes}
            left = (one for one in ballots if (one.left.image_id, one.right.image_id) not in answered)
            return next(left, None), len(answered), len(ballots)

    def ballot(self, rater: str, ballot_id: str) -> Ballot:
        """A ballot by its id; raises `InputError` where there is none."""
        with self._lock:
            return self._find(rater, ballot_id)

    def put(self, rater: str, ballot_id: str, choice: Choice) -> None:
        """Writes a vote; a ballot that is answered already keeps its answer. Raises `InputError` for others."""
        with self._lock:
            ballot = self._find(rater, ballot_id)
            votes = self._votes[rater]
            shown = {"image_id_a": ballot.left.image_id, "image_id_b": ballot.right.image_id}
            if any(shown.items() <= vote.items() for vote in votes):
                return
            about = {"prompt_id": ballot.prompt_id, "rater": rater, "aspect": self.aspect, **shown}
            self._write(rater, [*votes, {**about, "preferred_a": PREFERRED[choice], "answered_at": time.time()}])

    def undo(self, rater: str) -> None:
        """Takes the rater's last vote back; nothing happens where there is none."""
        with self._lock:
            _, votes = self._of(rater)
            if votes:
                self._write(rater, votes[:-1])

    def _find(self, rater: str, ballot_id: str) -> Ballot:
        ballots, _ = self._of(rater)
        found = next((ballot for ballot in ballots if ballot.ballot_id == ballot_id), None)
        if found is None:
            raise InputError("there is no such ballot", "Load the page again.")
        return found

    def _of(self, rater: str) -> tuple[list[Ballot], list[dict[str, Any]]]:
        check_rater(rater)
        if rater not in self._ballots:
            self._ballots[rater] = ballots_of(rater, self._pairs)
            name = self._name(rater)
            there = self._folder.exists(name)
            lines = self._folder.read_bytes(name).splitlines() if there else []
            self._votes[rater] = [json.loads(line) for line in lines]
        return self._ballots[rater], self._votes[rater]

    def _name(self, rater: str) -> str:
        return f"{rater}-{self.aspect}.jsonl"

    def _write(self, rater: str, votes: list[dict[str, Any]]) -> None:
        self._folder.write_bytes(self._name(rater), "".join(json.dumps(vote) + "\n" for vote in votes).encode())
        self._votes[rater] = votes
