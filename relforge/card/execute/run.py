"""Runs a card: every step in order, as a reader would, and nothing stays behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relforge import proc
from relforge.cancel import CancelToken
from relforge.card.execute.expected import difference, refusal
from relforge.card.execute.judge import Earlier, Judge
from relforge.card.execute.links import makes, statement_enters
from relforge.card.execute.place import altered, stamps
from relforge.card.execute.ready import Question, listens, local_urls, question
from relforge.card.execute.report import CardReport, StepReport, Verdict, report
from relforge.card.execute.session import Session, Shell
from relforge.card.execute.steps import Step
from relforge.card.execute.typist import Typist
from relforge.errors import ExitCode

_GOT_CHARACTERS = 4000


@dataclass(frozen=True)
class Plan:
    """One test of a card. ``limit_s``: for each step. ``home``: may lie in the card's folder, and
    is none of the card's."""

    card: Path
    home: Path
    image: str | None
    order: tuple[Step, ...]
    judge: Judge
    session: Session
    limit_s: float


@dataclass
class Result:
    """How the commands of one step went."""

    verdict: Verdict
    reason: str = ""
    printed: str = ""
    images: tuple[str, ...] = ()


def run_card(plan: Plan, cancel: CancelToken, on_line: Callable[[str], None]) -> CardReport:
    """All steps. Raises Cancelled; whatever was started has ended by then."""
    started = time.monotonic()
    before = stamps(plan.card.parent, plan.home)
    runner = _Runner(plan, cancel)
    with plan.session.ended():
        for index, step in enumerate(plan.order):
            cancel.check()
            on_line(f"line {step.line}: {title(step)} ...")
            runner.step(step, plan.order[index + 1 :])
    return report(
        card=str(plan.card),
        image=plan.image,
        seconds=time.monotonic() - started,
        altered=altered(plan.card.parent, plan.home, before),
        found=tuple(runner.found),
        ran_a_program=runner.ran_a_program,
    )


def title(step: Step) -> str:
    """The step in a word or two."""
    return step.name or step.section or "commands"


class _Runner:
    """What is known between steps."""

    def __init__(self, plan: Plan, cancel: CancelToken) -> None:
        self.limit_s = plan.limit_s
        self.judge = plan.judge
        self.session = plan.session
        self.cancel = cancel
        self.earlier: list[Earlier] = []
        self.found: list[StepReport] = []
        self.ran_a_program = False
        self.profile: str | None = None

    def step(self, step: Step, later: tuple[Step, ...]) -> None:
        started = time.monotonic()
        typist = Typist(self.cancel, started + self.limit_s, self.limit_s)
        if step.profile is not None and step.profile != self.profile:
            self.session.end_servers()
            self.profile = step.profile
        ruling = self.judge.rule(step, self.earlier)
        if ruling.kind == "run":
            result = self._run(step, later, typist)
        else:
            result = Result("fail" if ruling.kind == "fail" else "not-run", ruling.reason)
        if ruling.kind == "given":
            self.session.type_assignments(step, self.judge.given, typist)
        passed = result.verdict == "pass"
        self.earlier.append(
            Earlier(
                step,
                done=passed or ruling.kind in ("present", "given"),
                failed=result.verdict == "fail",
            )
        )
        if passed:
            self.ran_a_program |= not all(s.only_assigns for s in step.script.statements)
        self.found.append(
            StepReport(
                number=step.number,
                line=step.line,
                name=title(step),
                profile=step.profile,
                commands=step.script.text.strip(),
                verdict=result.verdict,
                reason=result.reason,
                seconds=round(time.monotonic() - started, 2),
                expected=step.expected.text if step.expected else None,
                got=result.printed[-_GOT_CHARACTERS:] or None,
                images=result.images,
            )
        )

    def _run(self, step: Step, later: tuple[Step, ...], typist: Typist) -> Result:
        asks = question(step, later, self.judge.variables)
        # Each says why it makes no sense to begin.
        fault = _syntax(step) or self._taken(step, asks) or self._server_missing(step, typist)
        if fault is not None:
            return Result("fail", fault)
        shell = self.session.shell_for(step, typist)
        before = set(self.session.states())
        with self.session.standing(step, shell, typist):
            result = self._statements(step, shell, typist, asks)
        result.images = self.session.images_of(before)
        engine = self.session.engine
        refused = engine.refusals() if engine is not None else []
        if refused:
            return Result("not-run", f"seen when it was to run: {refused[0]}", result.printed)
        if result.verdict == "pass":
            fault = self._not_ready(step, asks, typist, before) or _unexpected(step, result.printed)
            if fault is not None:
                result.verdict, result.reason = "fail", fault
        if result.verdict == "fail":
            result.reason += self.session.hints(step, shell, asks=_asks_a_server(step))
        return result

    def _statements(
        self, step: Step, shell: Shell, typist: Typist, asks: Question | None
    ) -> Result:
        printed = ""
        statements = step.script.statements
        for number, statement in enumerate(statements):
            enters = statement_enters(statement, self.judge.variables)
            typed = typist.statement(
                shell.terminal,
                statement,
                enters=enters,
                ready=None if enters else asks,
                background=step.marker is not None and step.marker.background,
            )
            printed += typed.printed.stdout
            shell.names |= {name for name, _ in statement.assignments}
            if typed.fault is not None:
                if shell.terminal.busy or shell.terminal.gone:
                    self.session.close(shell)
                return Result("fail", typed.fault, printed or typed.printed.stderr)
            if typed.occupies:
                shell.step = step
                if number + 1 < len(statements):
                    unreached = statements[number + 1].line
                    reason = f"line {unreached} is not reached: line {statement.line} goes on"
                    return Result("fail", reason, printed)
        return Result("pass", "", printed) if statements else Result("fail", "it has no commands")

    def _not_ready(
        self, step: Step, asks: Question | None, typist: Typist, before: set[str]
    ) -> str | None:
        """Of a server that was started detached, where the card says when it is ready."""
        new = set(self.session.states()) - before
        named = step.marker is not None and step.marker.ready is not None
        if asks is None or not (named or (step.ready_path and new)):
            return None
        return typist.until_ready(asks, lambda: self.session.dead(new))

    def _taken(self, step: Step, asks: Question | None) -> str | None:
        """A port that the step is to serve at, and where somebody else answers."""
        things = makes(step, self.judge.variables)
        ports = {int(thing.split()[1]) for thing in things if thing.startswith("port ")}
        if asks is not None and step.marker is not None and step.marker.ready:
            ports.add(asks.port)
        taken = next((port for port in sorted(ports) if listens(port)), None)
        if taken is None:
            return None
        return f"port {taken} of this host is taken before the step begins"

    def _server_missing(self, step: Step, typist: Typist) -> str | None:
        """Before a request: waits for a server that an earlier step started detached."""
        running = [one for one, state in self.session.states().items() if state == "running"]
        own = makes(step, self.judge.variables)
        if not running or any(thing.startswith("port ") for thing in own):
            return None
        for url in local_urls(step, self.judge.variables):
            base = re.match(r"https?://[^/]+", url)
            assert base is not None
            what = Question(f"{base[0]}/".replace("0.0.0.0", "127.0.0.1"), any_status=True)  # noqa: S104
            fault = typist.until_ready(what, lambda: self.session.dead(running))
            if fault is not None:
                return fault
        return None


def _syntax(step: Step) -> str | None:
    """What bash says against the block."""
    done = proc.run(
        ["bash", "-n"], code=ExitCode.ENVIRONMENT, stdin=step.script.text.encode(), check=False
    )
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"bash cannot read it: {said[0].removeprefix('bash: ') if said else 'no reason given'}"


def _unexpected(step: Step, printed: str) -> str | None:
    if step.expected is not None:
        return difference(step.expected, printed)
    refused = refusal(printed) if _asks_a_server(step) else None
    return f"the server refused: {refused}" if refused is not None else None


def _asks_a_server(step: Step) -> bool:
    return any(c.program in ("curl", "wget") for s in step.script.statements for c in s.commands)
