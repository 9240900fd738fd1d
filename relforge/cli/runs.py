"""``relforge runs``: the group; its commands stand in modules of their own."""

from __future__ import annotations

import typer

from relforge.cli import runs_gc, runs_list, runs_logs

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

app.callback(invoke_without_command=True)(runs_list.runs)
app.command("list")(runs_list.list_)
app.command()(runs_list.show)
app.command()(runs_logs.logs)
app.command()(runs_list.diff)
app.command()(runs_gc.gc)
