"""``relforge patch``: the group; its commands stand in modules of their own, by subject."""

from __future__ import annotations

import typer

from relforge.cli import patch_bundles, patch_flagscale, patch_lint, patch_rebase, patch_tree
from relforge.cli.flagscale_words import SEVERAL as SEVERAL

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


app.callback(invoke_without_command=True)(patch_flagscale.patch)
app.command()(patch_flagscale.history)
for command in (
    patch_bundles.seal,
    patch_bundles.inspect,
    patch_bundles.verify,
    patch_bundles.rotate,
    patch_rebase.rebase,
    patch_lint.lint,
):
    app.command()(command)
app.command("open")(patch_bundles.open_)
app.command("from-tree")(patch_tree.from_tree)
