"""``relforge keys``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import JsonOption, print_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Makes and shows the keys of sealed patch sets."""


@app.command()
def new(
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.", metavar="DIR")],
    name: Annotated[str, typer.Option("--name", help="The files' common beginning.")],
    json_: JsonOption = False,
) -> None:
    """Makes a key pair to open bundles with (age), and one to sign them with (ECDSA P-256)."""
    from relforge.patching.keys import new_keys

    made = new_keys(out, name)
    if json_:
        print_json(
            {
                "identity": str(made.identity),
                "recipient": made.recipient_text,
                "recipient_file": str(made.recipient),
                "signing_key": str(made.signing_key),
                "signing_public": str(made.signing_public),
                "signing_keyid": made.signing_keyid,
            }
        )
        return
    sys.stdout.write(
        f"keep secret: {made.identity}\n             {made.signing_key}\n"
        f"hand out:    {made.recipient}  ({made.recipient_text})\n"
        f"             {made.signing_public}  (key id {made.signing_keyid})\n"
    )


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A key file, or a folder of keys.")],
    json_: JsonOption = False,
) -> None:
    """Shows which bundles the private keys at PATH open: their public sides, no secret."""
    from relforge.patching.keys import load_identities

    found = load_identities([path])
    if json_:
        print_json(
            {
                "identities": [
                    {"file": str(key.path), **key.id.model_dump(mode="json")} for key in found.keys
                ],
                "findings": [{"file": str(f.path), "problem": f.problem} for f in found.findings],
            }
        )
        return
    for key in found.keys:
        sys.stdout.write(f"{key.path}: {key.id}\n")
    for finding in found.findings:
        sys.stderr.write(f"warning: {finding.path}: {finding.problem}\n")
