"""``relforge keys``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    KeyPassphraseFileOption,
    print_json,
    to_stderr,
    warn_of_exposed,
)
from relforge.errors import ExitCode, RelforgeError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Makes, shows and converts the keys of sealed patch sets."""


@app.command()
def new(
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.", metavar="DIR")],
    name: Annotated[str, typer.Option("--name", help="The files' common beginning.")],
    ed25519: Annotated[
        bool, typer.Option("--ed25519", help="Sign with Ed25519 instead of ECDSA P-256.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Makes a key pair to open bundles with (age), and one to sign bundles and releases with.

    Signatures are ECDSA P-256, or with --ed25519 Ed25519.
    """
    from relforge.patching.keys import new_keys

    made = new_keys(out, name, use_ed25519=ed25519)
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
    key_passphrase_file: KeyPassphraseFileOption = None,
    json_: JsonOption = False,
) -> None:
    """Shows the public sides of the keys at PATH, private and public ones: what they are for."""
    from relforge.patching.keys import passphrase_from
    from relforge.patching.keys.keyforms import show as show_keys

    warn_of_exposed(passphrase_file=key_passphrase_file)
    shown = show_keys(path, passphrase=passphrase_from(key_passphrase_file))
    if json_:
        print_json(
            {
                "keys": [side.model_dump(mode="json") for side in shown.sides],
                "findings": [
                    {"file": str(f.path), "kind": f.kind, "problem": f.problem}
                    for f in shown.findings
                ],
            }
        )
    else:
        for side in shown.sides:
            sys.stdout.write(f"{side.file}: {side}\n")
            if side.public:
                sys.stdout.write(f"  {side.public}\n")
    for finding in shown.findings:
        to_stderr(f"warning: {finding.path}: {finding.problem}")


@app.command()
def convert(
    key: Annotated[Path, typer.Argument(help="The key file, private or public.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="recipient (a line age1... or ssh-rsa ...), public-pem (FlagScale's "
            "public_key.pem), pem (private; FlagScale's private_key.pem), openssh (private).",
            metavar="FORM",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The new file; never an existing one.", metavar="FILE")
    ],
    key_passphrase_file: KeyPassphraseFileOption = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Write a protected key without protection.")
    ] = False,
) -> None:
    """Writes a key in another form: FlagScale's PEM pair, age's and ssh's lines and files."""
    from relforge.patching.keys import keyforms, passphrase_from

    form = next((known for known in keyforms.FORMS if known == to), None)
    if form is None:
        raise RelforgeError(
            f"there is no form {to!r}",
            code=ExitCode.USAGE,
            hint=f"--to takes one of: {', '.join(keyforms.FORMS)}",
        )
    warn_of_exposed(key, passphrase_file=key_passphrase_file)
    keyforms.convert(
        key,
        form,
        out,
        passphrase=passphrase_from(key_passphrase_file),
        unprotected=no_passphrase,
    )
    secret = form in keyforms.PRIVATE_FORMS
    sys.stdout.write(f"{out}: {'keep secret' if secret else 'hand out'}\n")
