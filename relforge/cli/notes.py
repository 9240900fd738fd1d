"""``relforge notes``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, print_json, to_stderr
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def notes(
    records: Annotated[
        list[Path],
        typer.Argument(
            help="release.json or published folder: the earlier one, then the newer; or one alone.",
            metavar="[OLD] NEW",
        ),
    ],
    lang: Annotated[
        str, typer.Option("--lang", help="Language of the notes.", metavar="en|zh")
    ] = "en",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the notes here, not to stdout.")
    ] = None,
    bench_comparison: Annotated[
        Path | None,
        typer.Option(
            "--bench-comparison",
            help="comparison.json of relforge bench compare, A the earlier image.",
            metavar="FILE",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Says what changed between two releases, from their records, as Markdown.

    Of published folders the answers are compared, too, so that a difference in accuracy is known
    better. With one record: what the first release has.
    """
    from relforge.notes.compare import compare_records
    from relforge.notes.performance import read_side_by_side
    from relforge.notes.record import read_record
    from relforge.notes.render import render

    if len(records) > 2:
        raise _usage(f"{len(records)} records are too many", "name the earlier and the newer one")
    if lang not in ("en", "zh"):
        raise _usage(f"there are no notes in {lang!r}", "choose en or zh")
    read = [read_record(path) for path in records]
    old, new = (read[0], read[1]) if len(read) == 2 else (None, read[0])
    side_by_side = None
    if bench_comparison is not None:
        if old is None:
            raise _usage("a comparison of two images needs both records", "name OLD and NEW")
        side_by_side = read_side_by_side(bench_comparison, old, new)
    found = compare_records(old, new, side_by_side)
    text = render(found, "zh" if lang == "zh" else "en")
    if out is not None:
        from relforge.files import write_atomic

        write_atomic(out, text.encode())
        to_stderr(f"wrote {out}")
    if json_:
        print_json(found.model_dump(mode="json"))
    elif out is None:
        sys.stdout.write(text)


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
