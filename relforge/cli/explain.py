"""``relforge explain``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from relforge.cli.common import JsonOption, ProjectOption, print_json
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from relforge.serving.diagnosis import Reading
    from relforge.serving.diagnosis.advice import Manifest
    from relforge.serving.report import Cause

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def explain(
    log: Annotated[
        str | None,
        typer.Argument(help="A server's log, - for standard input.", metavar="LOGFILE"),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release", "-r", help="Whose manifest the remedies are for.", metavar="NAME"
        ),
    ] = None,
    exit_code: Annotated[
        int | None,
        typer.Option("--exit-code", help="The server's exit status.", min=0, max=255),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the known causes.")] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Says why a server did not start or died: known causes in its log, the root first.

    Any server's log will do, as the server wrote it or as docker, Ray or Kubernetes wrap it.
    Exits 6 when nothing is recognised, and shows the log's last words. docs/diagnosis.md lists
    the causes.
    """
    if (log is None) != list_:
        raise RelforgeError(
            "explain: which log?" if log is None else "--list goes with no log",
            code=ExitCode.USAGE,
            hint="relforge explain LOGFILE, or relforge explain --list",
        )
    if log is None:
        _print_known(json_)
        return
    from relforge.engine.container_spec import ContainerState
    from relforge.serving.diagnosis import Reading

    manifest = _manifest(release, project) if release is not None else None
    state = None if exit_code is None else ContainerState(status="exited", exit_code=exit_code)
    reading = Reading(state)
    with _opened(log) as stream:
        reading.read(stream)
    causes = reading.causes
    if manifest is not None:
        from relforge.serving.diagnosis.advice import advised

        causes = tuple(advised(cause, manifest) for cause in causes)
    if json_:
        print_json(_json(log, reading, causes))
    else:
        _print(log, causes)
    if not causes:
        raise RelforgeError(
            "no known cause is in this log",
            code=ExitCode.GATE,
            where=log if log != "-" else "standard input",
            why=reading.last_words,
            hint="read the lines before the first error; docs/diagnosis.md says what is known",
        )


def _print_known(json_: bool) -> None:
    from relforge.serving.diagnosis import CAUSES
    from relforge.serving.diagnosis.listing import as_markdown

    if json_:
        shown = ("id", "explanation", "remedy", "field", "kind", "provenance", "seen")
        print_json({"causes": [{name: getattr(row, name) for name in shown} for row in CAUSES]})
    else:
        sys.stdout.write(as_markdown())


def _manifest(release: str, project: Path | None) -> Manifest:
    from relforge.manifest.project import find_project
    from relforge.serving.diagnosis.advice import Manifest

    found = find_project(Path.cwd(), project)
    loaded = found.release(release)
    return Manifest(loaded, found.release_files[release])


def _opened(log: str) -> AbstractContextManager[BinaryIO]:
    if log == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(log).open("rb")
    except OSError as error:
        raise RelforgeError(
            f"cannot read {log}",
            code=ExitCode.USAGE,
            where=log,
            why=error.strerror,
            hint="name a log file, or - for standard input",
        ) from error


def _print(log: str, causes: tuple[Cause, ...]) -> None:
    name = Path(log).name if log != "-" else "stdin"
    for number, cause in enumerate(causes, 1):
        place = f"{name}:{cause.line}" if cause.line else "exit status"
        likely = "" if cause.certainty == "certain" else " (likely: the line is only a warning)"
        sys.stdout.write(
            ("\n" if number > 1 else "")
            + f"{number}. {cause.id}{likely}: {cause.explanation}\n"
            + f"   {place}: {cause.evidence}\n"
            + f"   remedy: {cause.remedy}\n"
        )


def _json(log: str, reading: Reading, causes: tuple[Cause, ...]) -> dict[str, Any]:
    from relforge.serving.diagnosis import CAUSES

    rows = {row.id: row for row in CAUSES}
    return {
        "log": log,
        "explained": bool(causes),
        "causes": [
            {
                **cause.model_dump(mode="json"),
                "kind": rows[cause.id].kind,
                "provenance": rows[cause.id].provenance,
            }
            for cause in causes
        ],
        "last_words": reading.last_words,
    }
