"""The rendered Dockerfiles of all releases, looked at by hadolint and by BuildKit itself.

Releases differ in names, hashes and dates, which stand in labels and in the first line; what is
otherwise alike is looked at once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from relforge.building import ALWAYS_THERE
from relforge.checking import buildcheck, hadolint
from relforge.checking.origins import origins
from relforge.checking.remarks import Remark, is_exempt
from relforge.checking.report import Fault, NotRun
from relforge.errors import RelforgeError
from relforge.manifest.site import Site
from relforge.rendering import template_path
from relforge.subject import Subject

AnswerT = TypeVar("AnswerT")

_PLAIN_LABEL = re.compile(r"^(LABEL [\w.-]+)=[\w.:/@+=~-]+$", re.MULTILINE)
_STAGE = re.compile(r"^FROM\s+\S+(?:\s+AS\s+(?P<name>\S+))?\s*$", re.IGNORECASE)


@dataclass
class _Alike:
    """The first of several Dockerfiles that differ in nothing a linter sees."""

    subject: Subject
    text: str
    others: int = 0


@dataclass
class _Met:
    """One remark at one place of a template; ``others`` counts further Dockerfiles that have it."""

    remark: Remark
    alike: _Alike
    where: str
    others: int


@dataclass
class Dockerfiles:
    """Collects what was rendered, and has it looked at, all at once."""

    _by_shape: dict[str, _Alike] = field(default_factory=dict)

    def add(self, subject: Subject, text: str) -> None:
        """Takes the Dockerfile of a release."""
        head = rf"^# {re.escape(subject.release.name)}: .*$"
        shape = re.sub(head, "#", _PLAIN_LABEL.sub(r"\1=x", text), flags=re.MULTILINE)
        if (alike := self._by_shape.get(shape)) is not None:
            alike.others += 1
        else:
            self._by_shape[shape] = _Alike(subject, text)

    def look(self, site: Site) -> tuple[list[Fault], list[NotRun]]:
        """What is wrong with them, and what could not be looked at."""
        if not self._by_shape:
            return [], []
        files = {str(number): alike for number, alike in enumerate(self._by_shape.values())}
        not_run: list[NotRun] = []
        with (
            tempfile.TemporaryDirectory(prefix="relforge-check-") as name,
            ThreadPoolExecutor() as pool,
        ):
            folder = Path(name)
            for file, shape in zip(files, self._by_shape, strict=True):
                (folder / file).write_text(shape, encoding="utf-8")
            contexts = {file: _contexts(alike.subject) for file, alike in files.items()}
            linted = pool.submit(hadolint.remarks, folder, tuple(files))
            checked = pool.submit(buildcheck.answers, folder, contexts, site.engine)
            remarks = _answer(hadolint.NAME, linted.result, not_run) or {}
            answers = _answer(buildcheck.NAME, checked.result, not_run) or {}
        met: dict[tuple[str, str], _Met] = {}
        for file, alike in files.items():
            found = list(remarks.get(file, ()))
            if (answer := answers.get(file)) is not None:
                found += answer.remarks
                if answer.unknown is not None:
                    not_run.append(_unknown(alike, answer.unknown))
            for one in _placed(alike, found):
                first = met.setdefault((one.where, one.remark.rule), one)
                first.others += 0 if first is one else 1 + one.others
        return [_fault(one) for one in met.values()], not_run


def _answer(name: str, result: Callable[[], AnswerT], not_run: list[NotRun]) -> AnswerT | None:
    try:
        return result()
    except RelforgeError as error:
        reason = f"{error.what}: {error.why}" if error.why else error.what
        not_run.append(NotRun(look=name, reason=reason, remedy=error.hint))
        return None


def _contexts(subject: Subject) -> tuple[str, ...]:
    return (*ALWAYS_THERE, *subject.lock.sources)


def _placed(alike: _Alike, found: Iterable[Remark]) -> Iterator[_Met]:
    lines = alike.text.split("\n")
    counted = [one for one in found if not is_exempt(one, _stage(lines, one.line))]
    places = origins(alike.subject, alike.text) if counted else ()
    for one in counted:
        where = places[one.line - 1] if one.line <= len(places) else None
        # Where the line cannot be told, the template that it is rendered from.
        where = where or str(alike.subject.project.path(template_path(alike.subject)))
        yield _Met(one, alike, where, alike.others)


def _stage(lines: list[str], line: int) -> str | None:
    """The name of the build stage that a line stands in."""
    for text in reversed(lines[:line]):
        if (found := _STAGE.match(text)) is not None:
            return found["name"]
    return None


def _fault(met: _Met) -> Fault:
    remark, release = met.remark, met.alike.subject.release.name
    lines = met.alike.text.split("\n")
    quoted = lines[remark.line - 1].strip() if remark.line <= len(lines) else ""
    more = f", and of {met.others} more" if met.others else ""
    return Fault(
        subject=f"template {template_path(met.alike.subject)}",
        where=met.where,
        message=f"{remark.linter} {remark.rule}: {remark.message}: `{quoted}` "
        f"(line {remark.line} of the Dockerfile of {release}{more})",
        hint=(f"{remark.about}; " if remark.about else "")
        + f"the whole file: relforge render --release {release}",
    )


def _unknown(alike: _Alike, why: str) -> NotRun:
    return NotRun(
        look=f"{buildcheck.NAME} of {alike.subject.release.name}",
        reason=why,
        remedy="check where that image can be had, or correct its name in the template",
    )
