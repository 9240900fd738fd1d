"""docs/reproducibility.md names what a report can say, and options that there are."""

from __future__ import annotations

import re
from typing import get_args

from typer.main import get_command

from relforge.cli.rebuild import app
from relforge.manifest.project import builtin_root
from relforge.rebuilding.model import FileKind, LayerKind

TEXT = (builtin_root() / "docs" / "reproducibility.md").read_text()


def test_every_kind_of_difference_is_explained() -> None:
    table = TEXT[TEXT.index("| said of a layer | means |") :].split("\n\n", 1)[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    kinds = [kind for said, _ in rows for kind in re.findall(r"`(\w+)`", said)]
    assert sorted(kinds) == sorted(get_args(LayerKind))
    (of_files,) = (means for said, means in rows if "`content`" in said)
    assert re.findall(r"`(\w+)`", of_files) == list(get_args(FileKind))


def test_the_commands_shown_have_options_that_there_are() -> None:
    shown = "".join(re.findall(r"```(?:bash|text)\n(relforge .*?)```", TEXT, re.DOTALL))
    known = {name for param in get_command(app).params for name in param.opts}
    used = set(re.findall(r" (--[a-z-]+)", shown))
    assert used >= {"--check", "--against", "--compare", "--release"}
    assert used <= known


def test_the_templates_tools_that_are_named_are_there() -> None:
    named = set(re.findall(r"`(settle\.py|installed\.py|apt-install)`", TEXT))
    assert named == {"settle.py", "installed.py", "apt-install"}
    for name in named:
        assert (builtin_root() / "dockerfiles" / "tools" / name).is_file()
