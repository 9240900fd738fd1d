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
) -> None:
    """Prints the JSON schema of a manifest or of a stable --json output."""
    known = models()
    if write is not None:
        for schema_name, model in known.items():
            write_atomic(write / f"{schema_name}.schema.json", schema_bytes(model))
        return
    if name is None:
        sys.stdout.write("".join(f"{n}\n" for n in known))
        return
    if name not in known:
        raise RelforgeError(
            f"unknown schema {name!r}", code=ExitCode.USAGE, why=f"known: {', '.join(known)}"
        )
    sys.stdout.write(schema_bytes(known[name]).decode())
