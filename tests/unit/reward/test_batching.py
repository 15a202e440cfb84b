"""Passes hold the images of many requests, in order, and a crowd does not keep a single image waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp_ray.errors import RewardError
from vp_ray.protocols import Pixels, Scores
from vp_ray.reward.batching import Batcher, Pass, take


class Held:
    """A scorer whose passes wait for a word, and that scores the first pixel."""

    aspects = ("pixel",)

    def __init__(self) -> None:
        self.may_go, self.began = threading.Semaphore(0), threading.Semaphore(0)
        self.seen: list[list[str]] = []

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        self.seen.append(list(prompts))
        self.began.release()
        assert self.may_go.acquire(timeout=30)
        return images[:, 0, 0, :1].astype(np.float32)


def images(*values: int) -> list[np.ndarray]:
    return [np.full((2, 2, 3), value, np.uint8) for value in values]


def batcher(passes: list[Pass], most: int = 4) -> Batcher:
    return Batcher(most, 0.0, passes.append)


def test_what_comes_while_the_model_is_busy_shares_the_next_pass() -> None:
    passes: list[Pass] = []
    scorer, queue = Held(), batcher(passes)
    first = queue.submit("a", scorer, images(1), ["x"])
    assert scorer.began.acquire(timeout=30)
    rest = [queue.submit("a", scorer, images(value), ["same"]) for value in (2, 3, 4, 5, 6)]
    scorer.may_go.release(3)
    assert first.result(30)[0, 0] == 1
    assert [future.result(30)[0, 0] for future in rest] == [2, 3, 4, 5, 6]
    queue.close()
    assert [(one.images, one.prompts, one.requests) for one in passes] == [(1, 1, 1), (4, 1, 4), (1, 1, 1)]
    assert queue.busy_seconds == 0


def test_a_crowd_leaves_half_of_each_pass_to_those_behind_it() -> None:
    passes: list[Pass] = []
    scorer, queue = Held(), batcher(passes)
    crowd = queue.submit("a", scorer, images(*range(12)), ["crowd"] * 12)
    assert scorer.began.acquire(timeout=30)
    single = queue.submit("a", scorer, images(99), ["single"])
    scorer.may_go.release(2)
    assert single.result(30)[0, 0] == 99
    assert not crowd.done()
    assert "single" in scorer.seen[1]
    scorer.may_go.release(10)
    np.testing.assert_array_equal(crowd.result(30)[:, 0], range(12))
    queue.close()


def test_models_do_not_share_passes_and_a_cancelled_request_is_not_scored() -> None:
    passes: list[Pass] = []
    ours, theirs, queue = Held(), Held(), batcher(passes)
    queue.submit("a", ours, images(1), ["x"])
    assert ours.began.acquire(timeout=30)
    gone = queue.submit("b", theirs, images(2), ["gone"])
    kept = queue.submit("b", theirs, images(3), ["kept"])
    assert gone.cancel()
    ours.may_go.release()
    theirs.may_go.release()
    assert kept.result(30)[0, 0] == 3
    with pytest.raises(CancelledError):
        gone.result(0)
    queue.close()
    assert theirs.seen == [["kept"]]
    assert [one.model for one in passes] == ["a", "b"]


def test_a_batcher_that_ends_tells_those_who_wait() -> None:
    scorer, queue = Held(), batcher([])
    first = queue.submit("a", scorer, images(1), ["x"])
    assert scorer.began.acquire(timeout=30)
    waiting = queue.submit("a", scorer, images(2), ["x"])
    ending = threading.Thread(target=queue.close)
    ending.start()
    scorer.may_go.release()
    with pytest.raises(RewardError, match="ending"):
        waiting.result(30)
    assert first.result(30)[0, 0] == 1
    ending.join(30)
    with pytest.raises(RewardError, match="ending"):
        queue.submit("a", scorer, images(1), ["x"])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 16))
def test_a_pass_is_full_when_enough_waits_and_the_first_request_is_always_in_it(waiting: list[int], room: int) -> None:
    counts = take(waiting, room)
    assert sum(counts) == min(sum(waiting), room)
    assert counts[0] >= min(waiting[0], (room + 1) // 2)
    assert all(0 <= count <= left for count, left in zip(counts, waiting, strict=True))
    if len(waiting) > 1 and waiting[0] > room > 1:
        assert sum(counts[1:]) > 0
