"""``--junit`` and ``--summary``: what a command came to, for a CI; written also when it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge import redact
from relforge.cli.common import Workplace, to_stderr
from relforge.errors import Cancelled, RelforgeError
from relforge.files import write_atomic

if TYPE_CHECKING:
    from relforge.ci.matrix import CiMatrix
    from relforge.ci.report import Suite
    from relforge.evidence.runs import Run
    from relforge.publishing.delivering import TargetOutcome
    from relforge.running.walk import Outcome

JunitOption = Annotated[
    Path | None, typer.Option("--junit", help="Also write JUnit XML.", metavar="FILE")
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        help="Also write a summary in Markdown (default: added to $GITHUB_STEP_SUMMARY).",
        metavar="FILE",
    ),
]
_STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


@dataclass
class Telling:
    """What is written when the command has ended."""

    title: str
    wanted: bool
    suites: list[Suite] = field(default_factory=list)
    prefixes: dict[str, str] = field(default_factory=dict)
    """Folders of this host, and what stands for them: they tell a reader elsewhere nothing."""

    def at(self, place: Workplace) -> None:
        """The folders of the project and of relforge's home are known from here on."""
        self.prefixes |= {f"{place.project.root}/": "", f"{place.home}/": "<home>/"}
        self.prefixes |= {f"{root}/": "<built-in>/" for root in place.project.roots[1:]}

    def clean(self, text: str) -> str:
        """Without secrets, and with short paths."""
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            text = text.replace(prefix, self.prefixes[prefix])
        return redact.text(text)

    def run(
        self,
        run: Run | None,
        outcomes: Sequence[Outcome],
        not_planned: Mapping[str, RelforgeError],
        sent: Mapping[str, Sequence[TargetOutcome]],
    ) -> None:
        """The releases of a run."""
        if not self.wanted:
            return
        from relforge.ci.report import of_release
        from relforge.evidence.runs import ReleaseRun
        from relforge.pipeline import STAGES

        entries = (
            run.releases
            if run is not None
            else [
                ReleaseRun(release=name, state="failed", exit_code=int(one.code), error=str(one))
                for name, one in not_planned.items()
            ]
        )

        stages = [stage.name for stage in STAGES]
        by_name = {one.release: one for one in outcomes}
        for entry in entries:
            outcome = by_name.get(entry.release)
            error = outcome.error if outcome else not_planned.get(entry.release)
            build = outcome.results.get("build") if outcome else None
            digest = getattr(build, "image_digest", None)
            self.suites.append(
                of_release(
                    entry, stages, error=error, digest=digest, sent=sent.get(entry.release, ())
                )
            )


@contextmanager
def telling(title: str, junit: Path | None, summary: Path | None) -> Iterator[Telling]:
    """What the command adds to is written at its end, and its error where it adds nothing."""
    told = Telling(title, bool(junit or summary or os.environ.get(_STEP_SUMMARY)))
    told.prefixes[f"{Path.cwd()}/"] = ""
    try:
        yield told
    except (RelforgeError, Cancelled, KeyboardInterrupt, Exception) as error:
        if isinstance(error, typer.Exit):
            _write(told, junit, summary)
            raise
        if told.wanted and not told.suites:
            from relforge.ci.report import of_error

            told.suites.append(of_error(title, error))
        try:
            _write(told, junit, summary)
        except RelforgeError as unwritten:
            # The error of the command is what has to be seen.
            to_stderr(f"warning: {unwritten.what}: {unwritten.why}")
        raise
    _write(told, junit, summary)


def _write(told: Telling, junit: Path | None, summary: Path | None) -> None:
    if not told.wanted:
        return
    from relforge.ci.report import Report
    from relforge.ci.summary import summary as markdown

    report = Report(title=told.title, suites=tuple(told.suites))
    if junit is not None:
        from relforge.ci.junit import junit_xml

        write_atomic(junit, junit_xml(report, told.clean))
    _write_summary(markdown(report, told.clean), summary)


def write_summary(matrix: CiMatrix, summary: Path | None) -> None:
    """The jobs that follow, where a summary is wanted."""
    if summary or os.environ.get(_STEP_SUMMARY):
        from relforge.ci.summary import matrix_summary

        _write_summary(matrix_summary(matrix, redact.text), summary)


def _write_summary(text: str, summary: Path | None) -> None:
    if summary is not None:
        write_atomic(summary, text.encode())
    elif step := os.environ.get(_STEP_SUMMARY):
        # A step may run several commands; what an earlier one wrote stays.
        path = Path(step)
        before = path.read_bytes() if path.is_file() else b""
        write_atomic(path, before + text.encode())
