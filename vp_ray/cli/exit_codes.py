"""What the exit code of every command means; docs/cli.md shows them."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
PARTLY: Final = 1
REFUSED: Final = 2
DEFECT: Final = 70
INTERRUPTED: Final = 130

MEANINGS: Final = {
    DONE: "done",
    PARTLY: "the command did its work and found something amiss: rows that could not be scored, something that the "
    "machine lacks, a submitted job that failed",
    REFUSED: "an error that you can mend: the sentence on the error stream says what, where and how",
    DEFECT: "a defect in vp_ray, with its traceback; please report it",
    INTERRUPTED: "stopped by Ctrl-C; the same command goes on where it was",
}
