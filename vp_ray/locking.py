"""One process a run: a second one that would write to the same directory is refused, on disks and on object stores.

A local directory is held by the operating system's lock on `.lock`, which ends with the process. An object store has no
locks, so the holder writes a heartbeat to `lock.json`: who finds one watches it, refuses to start where it beats, and
takes over where it does not. No two clocks are compared. Two processes that begin in the same moment may both find no
lock; each looks again after a moment, and one that later finds another's name in the lock stops. A holder of this very
machine whose process is not there any more is not waited for.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from vp_ray.errors import StorageError
from vp_ray.storage import RunFolder, explained

LOCK: Final = "lock.json"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
BEAT_SECONDS: Final = 10.0
_BEATS_MISSED: Final = 3.5
"""A holder that misses so many is gone."""
_SETTLE_SECONDS: Final = 2.0
"""Until a rival's lock, written in the same moment, must be seen."""


@contextmanager
def locked(run: RunFolder, beat_seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Holds the run for this process; raises `StorageError` when another process holds it.

    On an object store it takes as long as a few heartbeats to find out that a former holder is gone.
    """
    with _local(run) if run.is_local else _remote(run, beat_seconds):
        yield


@contextmanager
def _local(run: RunFolder) -> Iterator[None]:
    with explained(run.uri):
        run.local_path.mkdir(parents=True, exist_ok=True)
        file = (run.local_path / ".lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(run, "") from None
        yield


def _held(run: RunFolder, holder: str) -> StorageError:
    return StorageError(
        f"another process works on this run{holder}", "Wait for it, or use another run directory.", run.uri
    )


@contextmanager
def _remote(run: RunFolder, beat_seconds: float) -> Iterator[None]:
    before = _read(run)
    if before is not None and not _has_ended(before):
        _wait_for_silence(run, before, beat_seconds)
    heart = _Heart(run, beat_seconds)
    heart.beat()
    time.sleep(min(_SETTLE_SECONDS, beat_seconds / 2))
    now = _read(run)
    if not heart.owns(now):
        raise _held(run, _name(now))
    try:
        with _interrupting() as number:
            heart.start(number)
            yield
    except KeyboardInterrupt:
        if heart.lost is None:
            raise
        raise _held(run, heart.lost) from None
    finally:
        heart.stop()
        if heart.owns(_read(run)):
            run.delete(LOCK)


def _read(run: RunFolder) -> dict[str, Any] | None:
    try:
        found = run.read_json(LOCK) if run.exists(LOCK) else None
    except StorageError:
        # Taken away between the two calls.
        return None
    return found if isinstance(found, dict) else None


def _name(lock: dict[str, Any] | None) -> str:
    return f" (process {lock.get('process')} on {lock.get('host')})" if lock else ""


def _processes() -> str | None:
    """Names the table of processes that this process sees: a machine since its start, and a container on it."""
    try:
        return f"{_BOOT.read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _has_ended(lock: dict[str, Any]) -> bool:
    """Whether the holder would be seen here if it lived, and is not; False where that cannot be known."""
    seen_here = lock.get("processes") is not None and lock["processes"] == _processes()
    return seen_here and not Path(f"/proc/{lock.get('process')}").exists()


@contextmanager
def _interrupting() -> Iterator[int]:
    """The number of a signal that interrupts the main thread as Ctrl-C does.

    Shells have what they start in the background ignore SIGINT itself.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield signal.SIGINT
        return
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        yield signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


def _wait_for_silence(run: RunFolder, before: dict[str, Any], beat_seconds: float) -> None:
    """Returns when the lock has not been renewed for some beats; raises `StorageError` as soon as it is."""
    end = time.monotonic() + _BEATS_MISSED * beat_seconds
    while time.monotonic() < end:
        time.sleep(beat_seconds / 4)
        now = _read(run)
        if now is None:
            return
        if now != before:
            raise _held(run, _name(now))


class _Heart:
    """Renews the lock from a thread, and stops this process's work when the lock is another's."""

    def __init__(self, run: RunFolder, beat_seconds: float) -> None:
        self._run, self._seconds = run, beat_seconds
        self._owner = uuid.uuid4().hex
        self._beats = 0
        self._ended = threading.Event()
        self._signal: int = signal.SIGINT
        self._thread = threading.Thread(target=self._go_on, name="run-lock", daemon=True)
        self.lost: str | None = None
        """Who has the lock now, in words, when it is not this process any more."""

    def beat(self) -> None:
        """Writes the lock."""
        self._beats += 1
        about = {"host": socket.gethostname(), "process": os.getpid(), "processes": _processes(), "beat": self._beats}
        self._run.write_json(LOCK, {"owner": self._owner, **about})

    def owns(self, lock: dict[str, Any] | None) -> bool:
        """Whether this process wrote the lock."""
        return lock is not None and lock.get("owner") == self._owner

    def start(self, number: int) -> None:
        """Beats until `stop`; sends this process the signal of this number when the lock is lost."""
        self._signal = number
        self._thread.start()

    def stop(self) -> None:
        """Beats no more."""
        self._ended.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(self._seconds):
            # Storage that fails for a moment is no reason to give up; the next beat tries again.
            with suppress(StorageError):
                now = _read(self._run)
                if now is not None and not self.owns(now):
                    self.lost = _name(now)
                    os.kill(os.getpid(), self._signal)
                    return
                self.beat()
