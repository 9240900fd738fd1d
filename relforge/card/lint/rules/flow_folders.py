"""Folders that steps enter: made before, and reachable from where the reader is."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from relforge.card.lint.document import Document, Heading
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.shell import Word
from relforge.card.lint.steps import Step, option
from relforge.card.lint.variables import expand

_REPOSITORY = re.compile(
    r"(?:github\.com|gitlab\.com|gitee\.com|codeberg\.org|bitbucket\.org)[/:][\w.-]+/([\w.-]+)"
)
_CLONE_VALUES = frozenset(
    {"-b", "--branch", "--depth", "-c", "--config", "-o", "--origin", "-j", "--jobs",
     "--reference", "--filter", "--separate-git-dir"}
)  # fmt: skip
_MAKES_FOLDERS = frozenset(
    {"mkdir", "cp", "mv", "ln", "rsync", "scp", "tar", "unzip", "7z", "hf", "huggingface-cli",
     "modelscope", "django-admin", "cargo", "npm", "npx", "uv", "cmake", "cookiecutter", "svn"}
)  # fmt: skip
_UNKNOWN = re.compile(r"[$<>`*{]|[^\x00-\x7f]")
_OF_THE_FOLDER = re.compile(r"^(?:pip3? install (?:-e )?\.$|make\b|python3? setup\.py\b|\./\w)")
_DEEP = 3


@dataclass
class _Place:
    """Where the reader is: folders entered since the place that the card begins in."""

    here: tuple[str, ...] = ()
    made: set[str] = field(default_factory=set)
    cloned: bool = False
    opened: bool = False
    """Whether an archive was opened; what it holds is not known."""
    new_terminal: bool = False
    went_up: Heading | None = None
    """The section in which the last `cd` led upwards."""


def _directory(document: Document) -> Iterator[Hit]:
    linked = {
        match[1].rstrip(".").removesuffix(".git") for match in _REPOSITORY.finditer(document.text)
    }
    place = _Place()
    within = False
    for step in document.steps:
        words = step.command.started
        if step.within != within:
            within = step.within
            place.here, place.went_up = (), None
        if step.run is not None or not words:
            continue
        program = words[0].text
        if program == "cd" and len(words) > 1:
            yield from _enter(document, place, words[1], linked, within)
        elif program == "git" and len(words) > 2 and words[1].text == "clone":
            place.made.add(_clone_target(words))
            place.cloned = True
        elif program in _MAKES_FOLDERS or option(words, "--local-dir", "--local_dir"):
            place.made.update(_parts(words))
            place.opened = place.opened or program in ("tar", "unzip", "7z")
        elif _serves(step, document):
            # It does not end: the reader goes on in another terminal.
            place.here, place.went_up, place.new_terminal = (), None, True
        yield from _left_open(document, place, step)


def _enter(
    document: Document, place: _Place, word: Word, linked: set[str], within: bool
) -> Iterator[Hit]:
    target = expand(word.text, document.variables)
    place.went_up = None
    if target.startswith(("/", "~", "-")) or _UNKNOWN.search(target):
        place.here = (target,)
        return
    parts = [part for part in target.split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        place.here, parts = place.here[:-1], parts[1:]
        place.went_up = document.section_of(word.line)
    if not parts:
        return
    first = parts[0]
    if re.search(rf"git clone .*(?<![\w-]){re.escape(first)}(?![\w-])", document.text):
        place.made.add(first)
    unknown = first not in place.made and not place.opened
    if first in place.here and first not in place.made:
        yield Hit(
            word.line,
            f"`cd {word.text}` is relative, and the steps above have entered `{first}` already",
            "write where each step starts, or use absolute paths",
            severity="note",
        )
        place.here = tuple(parts)
        return
    if not place.here and unknown and first in linked:
        yield Hit(
            word.line,
            f"the repository `{first}` is entered, and no step clones it",
            # The image may hold it.
            severity="note" if within else None,
        )
    elif not place.here and unknown and place.new_terminal and place.cloned:
        yield Hit(
            word.line,
            f"`{first}` is entered in a new terminal, as the server above holds the first one,"
            " and no step makes it",
            severity="note",
        )
    place.here = (*place.here, *parts)


def _left_open(document: Document, place: _Place, step: Step) -> Iterator[Hit]:
    """Commands for the current folder, where a `cd ..` of another section decides which it is."""
    command = step.command
    if place.went_up is None or len(place.here) < _DEEP:
        return
    text = " ".join(word.text for word in command.started)
    if _OF_THE_FOLDER.match(text) and document.section_of(command.line) is not place.went_up:
        yield Hit(
            command.line,
            f"`{text}` works on the current folder, and the steps above leave"
            f" `{'/'.join(place.here)}`",
            "say which folder is meant",
            severity="note",
        )
        place.went_up = None


def _serves(step: Step, document: Document) -> bool:
    """Whether a step is a server in the foreground."""
    words = [word.text for word in step.command.started]
    server = words[:2] == ["vllm", "serve"] or any("launch_server" in word for word in words)
    last = step.command.line + step.command.raw.count("\n")
    behind = document.lines[last - 1].rstrip() if last <= len(document.lines) else ""
    return server and not behind.endswith("&") and not step.command.raw.startswith("nohup")


def _clone_target(words: tuple[Word, ...]) -> str:
    rest: list[str] = []
    skip = False
    for word in words[2:]:
        if skip:
            skip = False
        elif word.text.startswith("-"):
            skip = word.text in _CLONE_VALUES
        else:
            rest.append(word.text)
    if not rest:
        return ""
    target = rest[1] if len(rest) > 1 else posixpath.basename(rest[0].rstrip("/"))
    return target.removesuffix(".git").strip("./").split("/")[0]


def _parts(words: tuple[Word, ...]) -> Iterator[str]:
    for word in words[1:]:
        for part in re.split(r"[/=,{}]", word.text):
            yield part.removesuffix(".git")


RULES = (
    Rule(
        id="flow-directory",
        severity="warning",
        title="A folder is entered that no step made",
        why="`cd` fails, and all that follows runs in another folder.",
        remedy="show the step that makes it, with its commit",
        check=_directory,
    ),
)
