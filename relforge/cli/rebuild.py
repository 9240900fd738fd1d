"""``relforge rebuild``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    DeviceOption,
    JsonOption,
    KeyPassphraseFileOption,
    KeyPathOption,
    ProjectOption,
    ReleaseOption,
    SiteOption,
    interruptible,
    print_json,
    select,
    to_stderr,
    with_keys,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.rebuilding.model import RebuildOutput

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

CheckOption = Annotated[
    bool, typer.Option("--check", help="Keep nothing; it is an error when nothing is recorded.")
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Compare with this published folder, layout, tar, release.json, image or digest.",
        metavar="FOLDER|REF|DIGEST",
    ),
]
CompareOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--compare",
        help="Build nothing: compare these two folders, tars or images of a registry.",
        metavar="A B",
    ),
]


@app.command()
def rebuild(
    device: DeviceOption = None,
    release: ReleaseOption = None,
    check: CheckOption = False,
    against: AgainstOption = None,
    compare: CompareOption = None,
    key_path: KeyPathOption = None,
    key_passphrase_file: KeyPassphraseFileOption = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Builds a release again from its lock, without any cache, and says whether it is the same.

    It is compared with the result in the store, else with the published folder, or with what
    --against names. The store, the published folder and the engine's image stay as they are. Exit
    0: the same digest. Exit 5: another one, and which fields, layers and files differ, and how.
    """
    if compare is not None:
        if device or release or check or against:
            raise RelforgeError(
                "--compare builds nothing, and stands alone",
                code=ExitCode.USAGE,
                hint="relforge rebuild --compare A B",
            )
        output = _compared(*compare, project=project, site=site)
    else:
        place = with_keys(workplace(project, site), key_path, key_passphrase_file)
        chosen = select(place.project, devices=device, releases=release, models=None)
        if len(chosen) != 1:
            raise RelforgeError(
                "one release is built again at a time",
                code=ExitCode.USAGE,
                why=", ".join(one.name for one in chosen),
                hint="name one with --release",
            )
        from relforge.cli.rebuild_run import rebuild_release

        command = shlex.join(["relforge", *sys.argv[1:]])
        with interruptible() as cancel:
            output = rebuild_release(
                place, chosen[0], against=against, keep=not check, command=command, cancel=cancel
            )
    _say(output, as_json=json_)
    same = output.compared is None or output.compared.identical
    raise typer.Exit(int(ExitCode.DONE if same else ExitCode.BUILD))


def _compared(first: str, second: str, *, project: Path | None, site: Path | None) -> RebuildOutput:
    from relforge.rebuilding.compare import compare_images
    from relforge.rebuilding.image import named

    known = workplace(project, site).site
    with interruptible() as cancel:
        one, other = named(first, known, cancel), named(second, known, cancel)
        found = compare_images(one, other, line=to_stderr, cancel=cancel)
    return RebuildOutput(release=None, image_digest=None, compared=found)


def _say(output: RebuildOutput, *, as_json: bool) -> None:
    from relforge.rebuilding.text import lines

    rows = [f"note: {note}" for note in output.notes]
    if output.compared is not None:
        rows += lines(output.compared)
    else:
        rows.append(f"built again, {output.image_digest}; nothing is recorded to compare with")
    if output.layout is not None:
        rows.append(f"layout: {output.layout}")
    if as_json:
        print_json(output.model_dump(mode="json"))
    else:
        sys.stdout.write("".join(f"{row}\n" for row in rows))
