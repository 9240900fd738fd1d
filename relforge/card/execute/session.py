"""The terminals of a test and the containers that were started from them."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relforge import proc
from relforge.card.execute.script import Statement, used_variables
from relforge.card.execute.shell_place import EngineSide
from relforge.card.execute.steps import Step
from relforge.card.execute.terminal import Terminal
from relforge.card.execute.typist import Typist, tail

_SETTLE_S = 5.0


@dataclass
class Shell:
    """A terminal, and what was set in it. ``step``: whose server occupies it."""

    terminal: Terminal
    names: set[str] = field(default_factory=set)
    step: Step | None = None


@dataclass
class Session:
    """``folder``: where shells start. ``project``: the folder of steps that stand in it.

    ``preset``: variables of the tester's that the card uses and never sets.
    """

    folder: Path
    project: Path
    env: dict[str, str]
    engine: EngineSide | None
    preset: dict[str, str]
    shells: list[Shell] = field(default_factory=list)

    def shell_for(self, step: Step, typist: Typist) -> Shell:
        """Where a reader types it: the terminal of the step before, unless that is occupied, or the
        card says another one. A further launch goes where the one before was ended."""
        free = [shell for shell in self.shells if not shell.terminal.busy]
        if step.profile is not None and step.marker is not None and step.marker.profile and free:
            return free[0]
        if free and free[-1] is self.shells[-1] and not step.new_terminal:
            return free[-1]
        shell = Shell(Terminal(env=self.env, folder=self.folder, before=proc.dying_with_us()))
        self.shells.append(shell)
        if self.preset:
            words = " ".join(f"{name}={shlex.quote(v)}" for name, v in self.preset.items())
            self._quietly(shell, f"export {words}", typist)
            shell.names |= self.preset.keys()
        return shell

    @contextlib.contextmanager
    def standing(self, step: Step, shell: Shell, typist: Typist) -> Iterator[None]:
        """Within the block the shell is in the folder where the step's words have it."""
        place = self.place_of(step)
        if place is None or shell.terminal.entered:
            yield
            return
        self._quietly(shell, f'__relforge_at="$PWD"; cd -- {shlex.quote(str(place))}', typist)
        yield
        if not shell.terminal.busy and not shell.terminal.gone:
            self._quietly(shell, 'cd -- "$__relforge_at"', typist)

    def place_of(self, step: Step) -> Path | None:
        """The folder that a marker names; without one, the project where the paths of the step are
        to be found there alone."""
        if step.marker is not None and step.marker.place is not None:
            return self.project if step.marker.place == "project" else self.folder
        named = [path for s in step.script.statements for path in _relative_paths(s)]
        if not named or any((self.folder / path).exists() for path in named):
            return None
        there = all((self.project / path).exists() for path in named)
        return self.project if there else None

    def type_assignments(self, step: Step, given: dict[str, str], typist: Typist) -> None:
        """Sets what a step would have set, with the tester's values."""
        shell = self.shell_for(step, typist)
        for statement in step.script.statements:
            for name, _ in statement.assignments:
                if name in given:
                    self._quietly(shell, f"export {name}={shlex.quote(given[name])}", typist)
                    shell.names.add(name)

    def close(self, shell: Shell) -> None:
        """Ends one terminal and what was started from it."""
        shell.terminal.close()
        if shell in self.shells:
            self.shells.remove(shell)

    def end_servers(self) -> None:
        """Ends the servers, as Ctrl-C does; terminals that were occupied are free again."""
        if self.engine is not None:
            self.engine.clean()
        deadline = time.monotonic() + _SETTLE_S
        for shell in list(self.shells):
            while shell.terminal.busy and time.monotonic() < deadline:
                time.sleep(0.05)
            if shell.terminal.busy or shell.terminal.gone:
                self.close(shell)
            shell.step = None

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """Whatever was started has ended when this is left, also by a second Ctrl-C."""
        try:
            yield
        finally:
            failures: list[BaseException] = []

            def end() -> None:
                try:
                    self._end()
                except BaseException as error:  # noqa: BLE001 (carried to the caller's thread)
                    failures.append(error)

            worker = threading.Thread(target=end, name="card test ends")
            worker.start()
            worker.join()
            if failures:
                raise failures[0]

    def _end(self) -> None:
        # First the containers: a client that waits for its container then ends by itself.
        if self.engine is not None:
            self.engine.clean()
        for shell in list(self.shells):
            self.close(shell)
        if self.engine is not None:
            self.engine.clean()  # what was just being made

    def states(self) -> dict[str, str]:
        """The card's containers, and how they are."""
        return self.engine.containers() if self.engine is not None else {}

    def dead(self, ids: Iterable[str]) -> str | None:
        """Why a server in one of these containers will never answer; None while one runs."""
        ids = list(ids)
        if self.engine is None or not ids:
            return None
        states = self.engine.containers()
        if any(states.get(one) in ("running", "created", "restarting") for one in ids):
            return None
        words = self.engine.last_words([one for one in ids if one in states])
        return f"its container has ended\n{words}".rstrip()

    def images_of(self, before: Iterable[str]) -> tuple[str, ...]:
        """What the containers that are new since then were made of."""
        if self.engine is None:
            return ()
        return self.engine.image_ids([one for one in self.states() if one not in set(before)])

    def hints(self, step: Step, shell: Shell, *, asks: bool) -> str:
        """What else a reader should know about a step that failed; lines, each begun anew.

        ``asks``: it is a request to a server.
        """
        lines: list[str] = []
        used = {name for s in step.script.statements for name in used_variables(s.text)}
        for other in self.shells:
            if other is not shell:
                lines += [
                    f"${name} was set in another terminal, not in this one"
                    for name in sorted((used & other.names) - shell.names)
                ]
            if asks and other.step is not None and not other.terminal.busy:
                said = tail(other.terminal.printed())
                lines.append(f"the server of line {other.step.line} has ended\n{said}".rstrip())
        return "".join(f"\n{line}" for line in lines)

    def _quietly(self, shell: Shell, text: str, typist: Typist) -> None:
        typist.statement(
            shell.terminal, Statement(text, 0, ()), enters=False, ready=None, background=False
        )


def _relative_paths(statement: Statement) -> list[str]:
    """Paths that start where the reader stands: ``$PWD/x/y``, ``./x/y``."""
    found: list[str] = []
    values = [value for _, value in statement.assignments]
    for text in (*values, *(word for command in statement.commands for word in command.argv)):
        for part in text.replace(",", " ").replace("=", " ").split():
            head = part.partition(":")[0]
            for start in ("$PWD/", "${PWD}/", "$(pwd)/", "./"):
                if head.startswith(start) and head != start:
                    found.append(head.removeprefix(start))
    return found
