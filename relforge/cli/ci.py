"""``relforge ci``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from relforge.cli.common import ProjectOption, SiteOption, Workplace, own_project, to_stderr
from relforge.cli.common import workplace as find
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="The file to write; - prints it.", metavar="FILE"),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit 2 when the file is not as it would be.")
]
PythonOption = Annotated[
    str | None, typer.Option("--python", help="Python of the jobs that check and plan.")
]
InstallOption = Annotated[
    list[str] | None,
    typer.Option("--install", help="What pip installs in every job.", metavar="REQUIREMENT"),
]
BranchOption = Annotated[
    list[str] | None,
    typer.Option("--branch", help="Pushes to it are built.", metavar="PATTERN"),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--release-tag", help="Tags that release.", metavar="PATTERN"),
]


@app.callback()
def ci() -> None:
    """Writes workflows that check every change, build what it changed, and release on tags.

    Which releases there are, and on which runners, they read from the manifests when they run.
    """


@app.command()
def github(
    out: OutOption = None,
    check: CheckOption = False,
    python: PythonOption = None,
    install: InstallOption = None,
    branch: BranchOption = None,
    release_tag: TagOption = None,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes the workflow for GitHub Actions."""
    from relforge.ci.github import PATH, workflow

    place = find(project, site)
    own_project(place, project)
    settings = _settings(place, python, install, branch, release_tag)
    where = _place(place)
    typed = _typed(
        project, site, python=python, install=install, branch=branch, release_tag=release_tag
    )
    _deliver(workflow(settings, where), ["github", *typed], where.top / PATH, out, check)


@app.command()
def gitlab(
    out: OutOption = None,
    check: CheckOption = False,
    child: Annotated[
        Literal["change", "tag"] | None,
        typer.Option("--child", help="The jobs of a matrix, for a change or for a tag."),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option("--matrix", help="What relforge plan --matrix printed.", metavar="FILE"),
    ] = None,
    python: PythonOption = None,
    install: InstallOption = None,
    branch: BranchOption = None,
    release_tag: TagOption = None,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Writes the pipeline for GitLab CI, or, while that one runs, its child."""
    from relforge.ci.gitlab import PATH, pipeline
    from relforge.ci.gitlab import child as jobs_of

    place = find(project, site)
    settings = _settings(place, python, install, branch, release_tag)
    where = _place(place)
    if (child is None) != (matrix is None):
        raise RelforgeError(
            "--child and --matrix go together",
            code=ExitCode.USAGE,
            hint="relforge plan --all --matrix > FILE, then --child change --matrix FILE",
        )
    typed = _typed(
        project, site, python=python, install=install, branch=branch, release_tag=release_tag
    )
    if child is None or matrix is None:
        own_project(place, project)
        _deliver(pipeline(settings, where), ["gitlab", *typed], where.top / PATH, out, check)
        return
    found = jobs_of(settings, where, _read(matrix), release=child == "tag")
    _deliver(found, ["gitlab", "--child", child, *typed], Path("-"), out, check)


def _settings(
    place: Workplace,
    python: str | None,
    install: list[str] | None,
    branches: list[str] | None,
    release_tags: list[str] | None,
) -> Any:
    from pydantic import ValidationError

    from relforge.manifest.ci import CiSite

    given = {
        "python": python, "install": install, "runner_install": install, "branches": branches,
        "release_tags": release_tags,
    }  # fmt: skip
    own = place.site.ci.model_dump()
    try:
        return CiSite.model_validate(own | {k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-").replace("branches", "branch")
        raise RelforgeError(
            f"{option.removesuffix('s')}: {first['input']!r} cannot be used",
            code=ExitCode.USAGE,
            why=first["msg"],
        ) from error


def _place(place: Workplace) -> Any:
    from relforge.ci.place import Place

    found = Place.of(place.project, place.site)
    if place.site_file is None or found.site_file is not None:
        return found
    if place.site.ci.secrets:
        raise RelforgeError(
            "secrets are written beside the site configuration, which is not in the repository",
            code=ExitCode.USAGE,
            where=str(place.site_file),
            hint="move it there, and name it with --site",
        )
    to_stderr(
        f"{place.site_file} is not in the repository: jobs take what their runner has, and of its "
        "`ci` only what is written now counts"
    )
    return found


def _read(matrix: Path) -> Any:
    from relforge.ci.matrix import CiMatrix

    try:
        return CiMatrix.model_validate_json(matrix.read_bytes())
    except (OSError, ValueError) as error:
        raise RelforgeError(
            "this is no matrix",
            code=ExitCode.USAGE,
            where=str(matrix),
            why=error.strerror if isinstance(error, OSError) else str(error).splitlines()[0],
            hint=f"relforge plan --all --matrix > {matrix}",
        ) from error


def _deliver(
    content: Any, command: list[str], default: Path, out: Path | None, check: bool
) -> None:
    from relforge.ci.writing import is_ours, written
    from relforge.files import write_atomic

    made_by = shlex.join(["relforge", "ci", *command])
    data = written(content, made_by)
    file = out or default
    if str(file) == "-":
        sys.stdout.write(data.decode())
        return
    if not check:
        if file.is_file() and not is_ours(file.read_bytes()):
            raise RelforgeError(
                f"{file.name} is somebody's own",
                code=ExitCode.USAGE,
                where=str(file),
                why="its first line is not that of a file that relforge ci wrote",
                hint=f"move it away, or write beside it: {made_by} --out FILE",
            )
        write_atomic(file, data)
        to_stderr(f"wrote {file}")
        return
    try:
        found = file.read_bytes()
    except OSError as error:
        found, why = None, error.strerror
    else:
        why = "it was edited, or settings or relforge are others than when it was written"
    if found != data:
        raise RelforgeError(
            f"{file.name} is not what would be written now",
            code=ExitCode.USAGE,
            where=str(file),
            why=why,
            hint=made_by if out is None else f"{made_by} --out {out}",
        )
    to_stderr(f"{file} is as it would be written")


def _typed(project: Path | None, site: Path | None, **given: Any) -> list[str]:
    """The options that what is written depends on, as they would be typed."""
    words: list[str] = []
    for name, value in ({**given, "project": project, "site": site}).items():
        each = value if isinstance(value, list) else [value] if value is not None else []
        for one in each:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words
