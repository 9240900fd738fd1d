"""``relforge card test``: runs the commands that a card shows."""

from __future__ import annotations

import sys
from pathlib import Path
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
    from relforge.card.execute.run import Plan

_HAVE = ("hardware", "secret", "network")


def card_test(
    card: Annotated[Path, typer.Argument(help="The card.", metavar="README.md")],
    image: Annotated[
        str | None,
        typer.Option("--image", help="The digest that the card has to be about.", metavar="DIGEST"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A variable of the card's, set by you.", metavar="NAME=VALUE"),
    ] = None,
    have: Annotated[
        list[str] | None,
        typer.Option(
            "--have", help=f"Also run what needs this: {', '.join(_HAVE)}.", metavar="NEED"
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", help="Limit for each step, waits included.", metavar="SECONDS"),
    ] = 900,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run, and run nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Run the commands of a card that was not written here.")
    ] = False,
    allow_host: Annotated[
        bool,
        typer.Option("--allow-host", help="Also run what reaches into this machine."),
    ] = False,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Runs a card's commands in order, and compares what they print with what the card says.

    Steps that need hardware, a secret or the network outside are not run, and say why.
    """
    from relforge.card.execute.consent import require_consent
    from relforge.card.execute.prepare import Wishes, prepare
    from relforge.card.execute.report import text
    from relforge.card.execute.run import run_card
    from relforge.engine.client import connect
    from relforge.engine.containers import sweep
    from relforge.workarea import work_area

    card = _existing(card)
    place = workplace(project, site)
    wishes = Wishes(
        card=card,
        image=image,
        have=_needs(have or [], allow_host),
        given=_given(set_ or []),
        limit_s=_positive(timeout),
        project=_project_of(card, place.project.root),
        home=place.home,
    )
    if not dry_run:
        require_consent(card, place.home, given=yes)
    with interruptible() as cancel, work_area(place.home, "card-test") as area:
        plan = prepare(wishes, place.site.engine, area)
        if dry_run:
            _show(plan, json_)
            return
        if plan.session.engine is not None:
            client = connect(place.site.engine)
            try:
                sweep(client)  # what a killed test left
            finally:
                client.close()
        found = run_card(plan, cancel, to_stderr)
    if json_:
        print_json(found.model_dump(mode="json"))
        to_stderr(text(found).rpartition("\n")[2])
    else:
        sys.stdout.write(f"{text(found)}\n")
    raise typer.Exit(0 if found.verdict == "pass" else int(ExitCode.GATE))


def _show(plan: Plan, as_json: bool) -> None:
    from relforge.card.execute.prepare import foreseen
    from relforge.card.execute.run import title

    rulings = foreseen(plan)
    would = sum(ruling.kind == "run" for _, ruling in rulings)
    steps = "1 step" if len(rulings) == 1 else f"{len(rulings)} steps"
    to_stderr(f"{steps}, {would} would run" if rulings else "the card has no step")
    if as_json:
        print_json(
            [
                {
                    "number": step.number,
                    "line": step.line,
                    "name": title(step),
                    "profile": step.profile,
                    "commands": step.script.text.strip(),
                    "expected": step.expected.text if step.expected else None,
                    "run": ruling.kind == "run",
                    "reason": ruling.reason,
                }
                for step, ruling in rulings
            ]
        )
        return
    for step, ruling in rulings:
        verdict = "run" if ruling.kind == "run" else "not run"
        reason = f": {ruling.reason}" if ruling.reason else ""
        sys.stdout.write(f"line {step.line}: {title(step)}: {verdict}{reason}\n")
        for line in step.script.text.strip().splitlines():
            sys.stdout.write(f"    {line}\n")
        if step.expected is not None:
            sys.stdout.write(f"  expected (line {step.expected.line}): {step.expected.text}\n")


def _existing(card: Path) -> Path:
    path = (card / "README.md" if card.is_dir() else card).absolute()
    if not path.is_file():
        raise RelforgeError(
            "there is no such card",
            code=ExitCode.USAGE,
            where=str(path),
            hint="name the README.md of a published folder: dist/<release>/README.md",
        )
    return path


def _project_of(card: Path, around: Path) -> Path:
    """The project that the card lies in; outside of any, the one in force."""
    from relforge.manifest.project import builtin_root, find_project

    own = find_project(card.parent).root
    return around if own == builtin_root() and not card.is_relative_to(own) else own


def _needs(named: list[str], allow_host: bool) -> frozenset[str]:
    for need in named:
        if need not in _HAVE:
            raise RelforgeError(
                f"--have {need}: there is no such need",
                code=ExitCode.USAGE,
                hint=f"there are {', '.join(_HAVE)}",
            )
    return frozenset([*named, "host"] if allow_host else named)


def _given(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise RelforgeError(
                f"--set {word}: it sets nothing",
                code=ExitCode.USAGE,
                hint="--set NAME=VALUE",
            )
        found[name] = value
    return found


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise RelforgeError(
            f"--timeout {seconds:g} is no time", code=ExitCode.USAGE, hint="more than 0 seconds"
        )
    return seconds
