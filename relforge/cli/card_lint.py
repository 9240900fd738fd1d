"""``relforge card lint``."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import print_json, to_stderr
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.card.lint.finding import Finding, Rule
    from relforge.card.lint.many import Card

_SEVERITIES = ("error", "warning", "note")


def lint(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Cards; - reads one, of a folder every *.md.", metavar="FILE..."),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what has one right answer, then lint.")
    ] = False,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Leave out a rule.", metavar="RULE")
    ] = None,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0 on stdout.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="Print the rules.")] = False,
    explain: Annotated[
        str | None,
        typer.Option("--explain", help="Say what a rule is for.", metavar="RULE"),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of findings on stdout.")
    ] = False,
) -> None:
    """Finds mistakes in model cards: commands that fail, steps that do not fit, broken text.

    Any Markdown card will do. Ends with 6 when there is an error, 0 without, also where there are
    warnings and notes. docs/card-lint.md shows every rule.
    """
    from relforge.card.lint.rules import all_rules

    known = {rule.id: rule for rule in all_rules()}
    if rules or explain is not None:
        if files or fix or (rules and explain is not None):
            raise _usage("--rules and --explain go alone", "relforge card lint --rules")
        if explain is not None:
            _explain(_rule(explain, known), json_)
        else:
            _table(list(known.values()), json_)
        return
    if not files:
        raise _usage("card lint: which card?", "relforge card lint README.md")
    if json_ and sarif:
        raise _usage("--json and --sarif are two formats", "choose one")
    without = [_rule(name, known).id for name in ignore or ()]
    cards, unreadable = _read(files, without if fix else None)
    from relforge.card.lint.many import lint_cards

    findings = lint_cards(cards, without=without)
    if json_:
        print_json([finding.model_dump() for finding in findings])
    elif sarif:
        from relforge.card.lint.sarif import sarif as as_sarif

        print_json(as_sarif(findings, known.values()))
    else:
        _print(findings)
    if cards or not unreadable:
        to_stderr(_count(findings, len(cards)))
    if unreadable:
        for error in unreadable[:-1]:
            to_stderr(f"error: {error}")
        raise unreadable[-1]
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(int(ExitCode.GATE))


def _read(
    files: Sequence[Path], fixed_without: Sequence[str] | None
) -> tuple[list[Card], list[RelforgeError]]:
    """The cards, repaired where that is asked for, and those that cannot be read."""
    from relforge.card.lint.many import Card

    cards: list[Card] = []
    unreadable: list[RelforgeError] = []
    for path in dict.fromkeys(_each(files)):
        try:
            text = _text(path)
        except RelforgeError as error:
            unreadable.append(error)
            continue
        if fixed_without is not None:
            text = _fixed(path, text, fixed_without)
        base = None if str(path) == "-" else path.parent
        cards.append(Card(str(path), text, base))
    return cards, unreadable


def _each(files: Sequence[Path]) -> Iterator[Path]:
    """The files, those below folders included; a folder without any stands for itself."""
    for path in files:
        if not path.is_dir():
            yield path
            continue
        below = [
            one
            for one in sorted(path.rglob("*.md"))
            if not any(
                part.startswith(".") or part == "node_modules"
                for part in one.relative_to(path).parts
            )
            and one.is_file()
        ]
        yield from below or [path]


def _text(path: Path) -> str:
    if str(path) == "-":
        data, where = sys.stdin.buffer.read(), "standard input"
    else:
        where = str(path)
        try:
            data = path.read_bytes()
        except IsADirectoryError as error:
            # "Nothing found" would be true, and would hide that the wrong folder was named.
            raise RelforgeError(
                "there is no card in the folder",
                code=ExitCode.USAGE,
                where=where,
                why="no *.md lies in it or below it, but in hidden folders and node_modules",
                hint="check the path, or name the files",
            ) from error
        except OSError as error:
            raise RelforgeError(
                "a card cannot be read",
                code=ExitCode.USAGE,
                where=where,
                why=error.strerror or str(error),
                hint="check the path",
            ) from error
    if b"\0" in data:
        raise RelforgeError(
            "this is no text",
            code=ExitCode.USAGE,
            where=where,
            why=f"byte {data.index(0)} is NUL",
            hint="name Markdown files in UTF-8",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RelforgeError(
            "a card is not UTF-8",
            code=ExitCode.USAGE,
            where=f"{where}:{line}",
            why=f"byte {error.start} is 0x{data[error.start]:02x}: {error.reason}",
            hint="convert it: iconv -f CURRENT -t UTF-8",
        ) from error


def _fixed(path: Path, text: str, without: Sequence[str]) -> str:
    """The repaired text, which is in the file by then; a card from a pipe goes to stdout."""
    from relforge.card.lint.fixing import fix
    from relforge.files import write_atomic

    if str(path) == "-":
        raise _usage("--fix writes files, and standard input is none", "name the file")
    repaired, changes = fix(text, without)
    if repaired != text:
        target = path.resolve()
        mode = stat.S_IMODE(target.stat().st_mode)
        write_atomic(target, repaired.encode(), mode=mode)
    for change in changes:
        to_stderr(f"{path}:{change.line}: repaired {change.rule}: {change.what}")
    return repaired


def _print(findings: Sequence[Finding]) -> None:
    for number, finding in enumerate(findings):
        if number and findings[number - 1].file != finding.file:
            sys.stdout.write("\n")
        sys.stdout.write(
            f"{finding.file}:{finding.line}: {finding.severity} {finding.rule}: {finding.message}\n"
            f"    {finding.remedy}\n"
        )


def _count(findings: Sequence[Finding], cards: int) -> str:
    in_all = "1 card" if cards == 1 else f"{cards} cards"
    if not findings:
        return f"{in_all}: nothing found"
    counts = []
    for severity in _SEVERITIES:
        number = sum(finding.severity == severity for finding in findings)
        if number:
            counts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    return f"{in_all}: {', '.join(counts)}"


def _table(rules: Sequence[Rule], as_json: bool) -> None:
    if as_json:
        print_json([_described(rule) for rule in rules])
        return
    width = max(len(rule.id) for rule in rules)
    for rule in rules:
        sys.stdout.write(f"{rule.id:<{width}}  {rule.severity:<7}  {rule.title}\n")


def _explain(rule: Rule, as_json: bool) -> None:
    if as_json:
        print_json(_described(rule))
        return
    sys.stdout.write(
        f"{rule.id} ({rule.severity}): {rule.title}\n\n{rule.why}\n\nRemedy: {rule.remedy}.\n"
    )


def _described(rule: Rule) -> dict[str, str]:
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "why": rule.why,
        "remedy": rule.remedy,
    }


def _rule(name: str, known: dict[str, Rule]) -> Rule:
    if name in known:
        return known[name]
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    raise _usage(
        f"unknown rule {name!r}",
        f"did you mean {near[0]}?" if near else "relforge card lint --rules",
    )


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
