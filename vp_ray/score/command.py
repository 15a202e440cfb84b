"""`vp-ray score`. Heavy modules are imported when it runs, so that `--help` answers at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp_ray.errors import InputError

if TYPE_CHECKING:
    from vp_ray.models.picture_scorer import PictureScorer
    from vp_ray.score.scoring import ScoredRow

_NAMED = 5


def score(
    scorer: Annotated[
        str,
        typer.Argument(
            help="A VP-Score checkpoint, or KIND:PLACE[,OPTION=VALUE]: KIND is vpscore, imagereward, pickscore, hpsv2, "
            "hpsv2.1, clip or aesthetic, PLACE a file, folder or hub id.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders, patterns in quotes, and CSV or Parquet files with columns image (or path) and "
            "prompt.",
            show_default=False,
        ),
    ],
    prompt: Annotated[
        str | None, typer.Option(help="The prompt of image files, and of tables that have no column for it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Writes FILE.jsonl or FILE.parquet instead of a table.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Prints JSON lines instead of a table.")] = False,
    image_column: Annotated[str | None, typer.Option(help="Column of the images: paths, or encoded bytes.")] = None,
    prompt_column: Annotated[str | None, typer.Option(help="Column of the prompts.")] = None,
    batch: Annotated[int, typer.Option(help="Images of a forward pass.", min=1, max=4096)] = 32,
    device: Annotated[str, typer.Option(help="Where the scorer runs, e.g. cuda.")] = "cpu",
) -> None:
    """Scores images against their prompts, one column an aspect and overall.

    A row that cannot be scored keeps its place, with its status and the reason, and stops no other. Exit code 0: all
    rows were scored; 1: some were not; 2: none was, or the command could not begin.
    """
    from rich.console import Console

    from vp_ray.models.scorers import load_scorer
    from vp_ray.score.rows import Columns, expand, is_table, read_rows
    from vp_ray.score.scoring import score_rows
    from vp_ray.score.writing import check_out, json_lines, print_table, write

    if out is not None:
        check_out(out)
        if as_json:
            raise InputError("--json has no effect with --out", "Give one of them.", "--json")
    files = expand(inputs)
    if not any(is_table(file) for file in files) and (image_column or prompt_column):
        raise InputError("there is no table whose columns could be named", "Give a CSV or a Parquet file.")
    loaded = load_scorer(scorer, device)
    if prompt is None and loaded.reader is not None and not all(is_table(file) for file in files):
        raise InputError("image files have no prompt of their own", "Give --prompt, or a table with prompts.")
    rows = read_rows(files, prompt, Columns(image_column, prompt_column))
    told = _Told()
    scored = told.listened(score_rows(loaded, rows, batch))
    if out is not None:
        write(scored, loaded.aspects, out)
    elif as_json:
        for line in json_lines(scored, loaded.aspects):
            typer.echo(line)
    else:
        kept = list(scored)
        if told.good:
            print_table(kept, loaded.aspects, Console())
    told.conclude(loaded)


class _Told:
    """Counts what passes, and says at the end what was not scored."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._bad: list[ScoredRow] = []
        self._cut = 0

    @property
    def good(self) -> int:
        """Rows that were scored."""
        return self._counts["scored"]

    def listened(self, rows: Iterable[ScoredRow]) -> Iterator[ScoredRow]:
        """The same rows."""
        for row in rows:
            self._counts[str(row.status)] += 1
            self._cut += row.prompt_cut
            if row.reason and len(self._bad) < _NAMED:
                self._bad.append(row)
            yield row

    def conclude(self, scorer: PictureScorer) -> None:
        """Names what was not scored on the error stream; raises `InputError` where nothing was, and ends with code 1
        where some was not."""
        total = sum(self._counts.values())
        if not total:
            raise InputError("there is no row to score", "Give images, or tables with rows.")
        bad = total - self.good
        if not self.good:
            first = self._bad[0]
            raise InputError(f"{first.reason}; none of {total} rows could be scored", "Mend them.", first.row.place)
        if self._cut and scorer.reader is not None:
            typer.echo(
                f"{self._cut} of {total} prompts are longer than {scorer.reader.limit} tokens and were cut.", err=True
            )
        if bad:
            by_status = ", ".join(f"{count} {name}" for name, count in self._counts.items() if name != "scored")
            typer.echo(f"{bad} of {total} rows were not scored ({by_status}):", err=True)
            for row in self._bad:
                typer.echo(f"  {row.row.place}: {row.reason}", err=True)
            if bad > len(self._bad):
                typer.echo(f"  and {bad - len(self._bad)} more", err=True)
            raise typer.Exit(1)
