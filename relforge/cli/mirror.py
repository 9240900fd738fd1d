"""``relforge mirror``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    interruptible,
    print_json,
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.oci.mirroring import MirrorReport

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def mirror(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC... DST",
            help="HOST/NAME:TAG, HOST/NAME@DIGEST, a folder, or a file that ends in .tar.",
        ),
    ],
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Make one image for the platforms of all SRC, and copy that."),
    ] = False,
    no_attachments: Annotated[
        bool, typer.Option("--no-attachments", help="Leave out signatures and the like.")
    ] = False,
    move_tag: Annotated[
        bool, typer.Option("--move-tag", help="Let the tag leave the image that it points to.")
    ] = False,
    withdrawn: Annotated[
        bool, typer.Option("--withdrawn", help="Copy an image although it was withdrawn.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Speak HTTP without TLS to registries.")
    ] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Copies an image, with everything attached to it, from SRC to DST.

    What is there is not sent, and the tag is written last. A published folder stands for its
    image, a folder or tar with several images takes :TAG behind it. Exit 7 when a registry
    refuses, when the tag is another image's, when the image was withdrawn, and for tags of a
    target's release repository, which relforge promote writes.
    """
    from relforge.oci.mirroring import mirror as copied

    *sources, destination = places
    if not sources or (len(sources) > 1 and not merge):
        raise RelforgeError(
            "a source and a destination are wanted",
            code=ExitCode.USAGE,
            why=f"{len(places)} places are named",
            hint="relforge mirror SRC DST; several sources go with --merge",
        )
    place = workplace(project, site)
    with interruptible() as cancel:
        report = copied(
            sources,
            destination,
            place.site,
            merges=merge,
            attachments=not no_attachments,
            move_tag=move_tag,
            take_withdrawn=withdrawn,
            dry_run=dry_run,
            plain_http=plain_http,
            uploads=place.home / "publications" / "registry",  # a target's are there, too
            line=to_stderr,
            cancel=cancel,
        )
    if json_:
        print_json(report.model_dump(mode="json"))
    else:
        sys.stdout.write(_text(report))


def _text(report: MirrorReport) -> str:
    from relforge.ui.text import size

    verb = "would be sent" if report.dry_run else "sent"
    counts = {state: sum(p.state == state for p in report.pieces) for state in ("sent", "mounted")}
    there = len(report.pieces) - sum(counts.values())
    rows = [
        f"{report.source} -> {report.destination}",
        f"{report.digest}" + (f", {', '.join(report.platforms)}" if report.platforms else ""),
        f"{counts['sent']} pieces {verb} ({size(report.sent_bytes)}), {counts['mounted']} taken "
        f"from another repository, {there} there already",
    ]
    if report.tag:
        moved = report.tag_before not in (None, report.digest)
        rows.append(
            f"tag {report.tag}" + (f", which pointed to {report.tag_before}" if moved else "")
        )
    return "\n".join(rows) + "\n"
