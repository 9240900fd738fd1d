"""docs/card-test.md shows attributes, needs and options that there are, and markers that parse."""

from __future__ import annotations

import re
import shlex

from typer.main import get_command

from relforge.card.execute import markers
from relforge.card.lint.document import parse
from relforge.cli.card import app
from relforge.manifest.project import builtin_root

TEXT = (builtin_root() / "docs" / "card-test.md").read_text()


def options() -> set[str]:
    command = get_command(app).commands["test"]  # type: ignore[attr-defined]
    return {word for parameter in command.params for word in parameter.opts}


def test_every_command_shown_has_options_that_exist() -> None:
    shown = "".join(re.findall(r"```(?:bash|text)\n(relforge .*?)```", TEXT, re.DOTALL))
    lines = shown.strip().splitlines()
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[:3] == ["relforge", "card", "test"]
        assert {word for word in words if word.startswith("-")} <= options() | {"--json"}


def test_every_option_named_exists() -> None:
    ours = re.findall(r"`(--[a-z-]+)", TEXT.partition("## Which image")[2])
    named = {"--have", "--allow-host", "--set", "--timeout", "--image"} | set(ours)
    assert named <= options() | {"--dry-run", "--yes"}
    for option in options() - {"--json", "--project", "--site", "README.md", "card"}:
        assert option in TEXT, option


def test_the_table_has_every_attribute_and_need() -> None:
    table = TEXT[TEXT.index("| attribute | meaning |") :].split("\n\n", 1)[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = {re.split("[=`]", word)[0] for cell in first for word in re.findall(r"`([^`]*)`", cell)}
    assert named == markers._KEYS
    for need in markers.NEEDS:
        assert f"`{need}`" in table


def test_the_markers_shown_are_understood() -> None:
    shown = "\n\n".join(re.findall(r"```html\n(.*?)```", TEXT, re.DOTALL))
    found = markers.markers(parse(shown))
    assert [type(m) for m in found] == [markers.StepMarker, markers.ExpectMarker]
