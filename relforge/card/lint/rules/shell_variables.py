"""Variables of shell blocks: set before use, with defaults that are defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Block, Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.pasted import is_pasted, is_script
from relforge.card.lint.placeholders import quoted_at, without_comment
from relforge.card.lint.shell import Command
from relforge.card.lint.variables import CREDENTIAL, DECLARE

_OF_THE_SHELL = frozenset(
    {"HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "PATH", "SHELL", "HOSTNAME", "LANG", "LC_ALL",
     "TERM", "TMPDIR", "UID", "EUID", "PPID", "RANDOM", "SECONDS", "LINENO", "IFS", "OSTYPE",
     "HOSTTYPE", "MACHTYPE", "EDITOR", "VISUAL", "PAGER", "DISPLAY", "TZ", "REPLY", "FUNCNAME",
     "PIPESTATUS", "OPTARG", "OPTIND", "MAIL", "SHLVL", "EPOCHSECONDS", "GROUPS", "DIRSTACK",
     "LD_LIBRARY_PATH", "LIBRARY_PATH", "PYTHONPATH", "CPATH", "MANPATH", "PKG_CONFIG_PATH",
     "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "COLUMNS", "LINES"}
)  # fmt: skip
_FAMILIES = re.compile(r"^(?:BASH|XDG_|SSH_|CI_|GITHUB_|SLURM_|OMPI_|PMI_|DBUS_)|_HOME$")
_SET = re.compile(
    r"(?<![\w$])([A-Za-z_]\w*)\+?=|\b(?:for|select)\s+(\w+)\s+in\b|\(\(\s*([A-Za-z_]\w*)\s*="
    r"|\$\{([A-Za-z_]\w*):?="
)
_MAY_SET = re.compile(r"=| in |read|mapfile|printf")
_READ = re.compile(r"\b(?:read|mapfile|readarray)\b((?:\s+-?[\w]+)+)|printf\s+-v\s+(\w+)")
_PART = re.compile(r"\$\{([A-Za-z_]\w*)(:[^{}]*)\}")
_SAFE = re.compile(r"^(?::?[-=+?])")
_ARITHMETIC = re.compile(r"^:\s*(?:-?\d{1,2}|\(-\d+\)|\$.*)(?::.*)?$")
_OFFSET_NAME = re.compile(r"^:\s*([A-Za-z_]\w*)(?::.*|\s*[-+*].*)?$")


def _unset(document: Document) -> Iterator[Hit]:
    if "$" not in document.text:
        return
    where = _first_set(document)
    told: set[str] = set()
    for block in document.blocks:
        if not block.expansions:
            continue
        others = block.others
        lines = block.typed.split("\n")
        arguments = not is_pasted(block) or is_script(document, block)
        for use in block.expansions:
            name = use.name
            if name in told or use.within == "heredoc" or _SAFE.match(use.operator):
                continue
            if name.isdigit():
                if name != "0" and not use.within and not arguments:
                    arguments = True
                    yield Hit(
                        use.line,
                        f"`${name}` is empty: a shell that is pasted into has no arguments",
                        "set a value, or give the script as a file and show how it is called",
                    )
                continue
            if _of_environment(name):
                continue
            number = use.line - block.first_line
            if number in others:
                continue
            set_at = where.get(name)
            if set_at is not None and set_at <= use.line:
                continue
            if f"{name}=" in lines[number] or _explained(document, name):
                continue
            told.add(name)
            if set_at is None:
                yield Hit(use.line, f"`${name}` is used, and nothing in the card sets it")
            else:
                yield Hit(
                    use.line,
                    f"`${name}` is used here and set only in line {set_at}",
                    "set it above its first use",
                )


def _default(document: Document) -> Iterator[Hit]:
    if "${" not in document.text:
        return
    where = _first_set(document)
    # Not by the grammar: what it makes of a path in this place is a fault of the whole script.
    for block in document.blocks:
        for number, line in enumerate(block.typed.split("\n") if block.is_shell else ()):
            for match in _PART.finditer(without_comment(line)):
                name, operator = match[1], match[2]
                if _SAFE.match(operator) or _ARITHMETIC.match(operator):
                    continue
                offset = _OFFSET_NAME.match(operator)
                if offset is not None and offset[1] in where and offset[1] != name:
                    continue
                if quoted_at(line, match.start()) == "'":
                    continue
                yield Hit(
                    block.first_line + number,
                    f"`{match[0]}` takes a part of the value, and is no default",
                    f"write ${{{name}:-{operator[1:].strip()}}}",
                )


def _readonly(document: Document) -> Iterator[Hit]:
    for command in _pasted_commands(document):
        if command.program == "readonly" and len(command.words) > 1:
            name = command.argv[1].partition("=")[0]
            yield Hit(command.line, f"`readonly {name}`: pasted a second time, the block fails")


def _exit(document: Document) -> Iterator[Hit]:
    for command in _pasted_commands(document):
        # A bare `exit` leaves a container or another host.
        if command.program == "exit" and len(command.words) > 1:
            yield Hit(
                command.line, f"`{' '.join(command.argv)}` closes the shell it is pasted into"
            )


def _pasted_commands(document: Document) -> Iterator[Command]:
    for block in document.blocks:
        if block.is_shell and is_pasted(block) and not is_script(document, block):
            yield from block.commands


def _first_set(document: Document) -> dict[str, int]:
    """The first line that sets each variable, in whatever way."""
    found: dict[str, int] = {}
    for block in document.blocks:
        if not block.is_shell:
            continue
        for number, line in enumerate(block.typed.split("\n")):
            if not _MAY_SET.search(line):
                continue
            code = without_comment(line)
            at = block.first_line + number
            for match in _SET.finditer(code):
                found.setdefault(next(name for name in match.groups() if name), at)
            for match in _READ.finditer(code):
                for name in (match[1] or match[2]).split():
                    found.setdefault(name, at)
        for command in block.commands:
            if command.program in DECLARE:
                for word in command.words[1:]:
                    found.setdefault(word.text.partition("=")[0], word.line)
    return found


def _of_environment(name: str) -> bool:
    if name in _OF_THE_SHELL or _FAMILIES.search(name):
        return True
    # The reader's own; no card can print them.
    return CREDENTIAL.search(name) is not None


def _explained(document: Document, name: str) -> bool:
    """Whether the card tells the reader what to put in."""
    own = re.compile(rf"(?<![\w]){re.escape(name)}(?![\w])")
    if any(own.search(span.text) for span in document.spans):
        return True
    if any(own.search(_comments(block)) for block in document.blocks if block.is_shell):
        return True
    # Files of other kinds may set it: a Dockerfile, an .env file.
    if any(own.search(block.text) for block in document.blocks if not block.is_shell):
        return True
    plain = "_" in name or f"${name}" in document.words
    return plain and own.search(document.words) is not None


def _comments(block: Block) -> str:
    lines = block.typed.split("\n")
    return "\n".join(line[len(without_comment(line)) :] for line in lines)


RULES = (
    Rule(
        id="shell-unset-variable",
        severity="error",
        title="A variable that nothing sets before it is used",
        why="The shell puts nothing in its place: names, paths and image references fall apart.",
        remedy="set it in a line above, or say what the reader has to set it to",
        check=_unset,
    ),
    Rule(
        id="shell-bad-default",
        severity="error",
        title="A default that is none",
        why="`${NAME:value}` takes a part of a string; the variable stays empty.",
        remedy="write ${NAME:-value}",
        check=_default,
    ),
    Rule(
        id="shell-readonly",
        severity="warning",
        title="A variable made readonly in a block that is pasted",
        why="The block works once in a shell; the next time every such line is an error.",
        remedy="set it without readonly",
        check=_readonly,
    ),
    Rule(
        id="shell-exit",
        severity="warning",
        title="An exit in a block that is pasted",
        why="The reader's terminal closes, with what it could have said.",
        remedy="say what is wrong without exit, or give the script as a file",
        check=_exit,
    ),
)
