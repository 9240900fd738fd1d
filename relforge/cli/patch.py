"""``relforge patch``: the group; its commands stand in modules of their own, by subject."""

from __future__ import annotations

import typer

from relforge.cli import patch_bundles

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def patch() -> None:
    """Seals, inspects and verifies patch sets."""


for command in (patch_bundles.seal, patch_bundles.inspect, patch_bundles.verify):
    app.command()(command)
