"""``relforge schema``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.manifest.schema import models, schema_bytes

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(help="Which one; all names without it.")] = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write all schemas to this folder.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Write a page with every field of every manifest."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 2 where a file is not up to date."),
    ] = False,
) -> None:
    """Prints the JSON schema of a manifest or of a stable --json output."""
    known = models()
    wanted: dict[Path, bytes] = {}
    if write is not None:
        wanted = {write / f"{name}.schema.json": schema_bytes(known[name]) for name in known}
    if reference is not None:
        from relforge.describing.reference import markdown

        wanted[reference] = markdown().encode()
    if check:
        _up_to_date(wanted, write, reference)
    elif wanted:
        for path, data in wanted.items():
            write_atomic(path, data)
    elif name is None:
        sys.stdout.write("".join(f"{n}\n" for n in known))
    elif name not in known:
        raise RelforgeError(
            f"unknown schema {name!r}", code=ExitCode.USAGE, why=f"known: {', '.join(known)}"
        )
    else:
        sys.stdout.write(schema_bytes(known[name]).decode())


def _up_to_date(wanted: dict[Path, bytes], write: Path | None, reference: Path | None) -> None:
    """Raises RelforgeError (USAGE) that names every file that is another one, or missing."""
    if not wanted:
        raise RelforgeError(
            "--check: of which files?",
            code=ExitCode.USAGE,
            hint="name them: --write FOLDER, --reference FILE, or both",
        )
    stale = [str(path) for path, data in wanted.items() if _content(path) != data]
    if stale:
        again = ["relforge schema"]
        again += [f"--write {write}"] if write else []
        again += [f"--reference {reference}"] if reference else []
        raise RelforgeError(
            "not what this version of relforge writes",
            code=ExitCode.USAGE,
            where="\n".join(stale),
            why="the models have changed since, or the file was edited",
            hint=" ".join(again),
        )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
