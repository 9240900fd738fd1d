"""From a failing verdict and a list of operators to the smallest set that has to be disabled.

1. Baselines: with every operator enabled the verdict must fail, with all of them disabled it must
   pass. Else the operators are not the cause, and nothing is searched.
2. Search: binary splitting (``minimal``) on one half of the questions.
3. Confirmation on the other half. When it fails, an operator is missing, and the search goes on
   with that half, on top of what was found.
4. Giving back: every operator is enabled again, one at a time; one that does no harm on either half
   is innocent.
5. Alone: every operator is enabled by itself, all others disabled. One that fails has to be in any
   set; when all do, there is no smaller one. For one that passes, those are searched without which
   it does no harm, and smaller sets are tried: the smallest that meets every combination known to
   fail (Reiter 1987, A Theory of Diagnosis from First Principles, Artificial Intelligence
   32:57-95).

Where the halves contradict each other, both are asked together.

Verdicts that stay inconclusive with all the questions there are count as not passed where passing
would shorten the list, and as not failed where failing would blame an operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relforge.tuning.asking import (
    BOTH,
    FRESH,
    SEARCH,
    Asked,
    Evaluate,
    Evaluation,
    Found,
    Limits,
    Outcome,
    Purpose,
)
from relforge.tuning.minimal import minimal, smallest_hitting_set

State = Literal[
    "done",  # found and confirmed
    "unconfirmed",  # found, but the fresh questions do not say so
    "stopped",  # at a limit, with what was known then
    "nothing-fails",  # with every operator enabled the verdict is not fail
    "not-the-operators",  # with all operators disabled the verdict is not pass
]
_ROUNDS = 3


@dataclass(frozen=True)
class Interaction:
    """An operator that does harm only together with all of the others."""

    operator: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """What was found. Operators stand in the order of the given list.

    ``culprits`` are those to disable. ``suspects``, when the search was stopped: those among which
    the missing ones are; disabling them as well is known to pass. ``smallest``: that no smaller
    set passes follows from the evaluations, provided that enabling more operators never mends what
    fewer broke.
    """

    state: State
    reason: str
    operators: tuple[str, ...]
    culprits: tuple[str, ...]
    suspects: tuple[str, ...]
    given_back: tuple[str, ...]
    interactions: tuple[Interaction, ...]
    confirmed: bool
    smallest: bool
    evaluations: tuple[Evaluation, ...]

    def count(self, *purposes: Purpose) -> int:
        """Evaluations made for these purposes; for none named, all."""
        return sum(not purposes or one.purpose in purposes for one in self.evaluations)


def tune(
    operators: Sequence[str],
    evaluate: Evaluate,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    suspects: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
    told: Callable[[Evaluation], None] = lambda _: None,
) -> Tuning:
    """Finds the smallest set of *operators* to disable.

    ``suspects`` are tried first: where disabling them is enough, one evaluation clears all others.
    ``told`` hears every evaluation when it was made. Raises what *evaluate* raises, and ValueError
    for operators named twice or suspects that are none of them.
    """
    names = tuple(operators)
    if len(set(names)) != len(names):
        raise ValueError("an operator is named twice")
    if unknown := sorted(set(suspects) - set(names)):
        raise ValueError(f"not among the operators: {', '.join(unknown)}")
    search = _Search(names, evaluate, limits, tuple(suspects), clock, told)
    return search.run()


class _Stopped(Exception):
    """A limit is reached; the text says which."""


class _Ended(Exception):
    """The search ends in another state than done."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state: State = state
        self.reason = reason


class _Contradiction(Exception):
    """What has to fail does not."""


@dataclass
class _Search:
    names: tuple[str, ...]
    evaluate: Evaluate
    limits: Limits
    first: tuple[str, ...]
    clock: Callable[[], float]
    told: Callable[[Evaluation], None]
    made: list[Evaluation] = field(default_factory=list)
    known: dict[tuple[frozenset[str], int], Outcome] = field(default_factory=dict)
    culprits: list[str] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    confirmed: bool = False
    smallest: bool = False

    def run(self) -> Tuning:
        self.started = self.clock()
        state: State = "done"
        reason = ""
        try:
            self._find_and_confirm(self._baselines(SEARCH))
            self._give_back()
            self._alone()
            count = len(self.culprits)
            reason = f"{count} of {len(self.names)} operators have to be disabled"
        except _Ended as ended:
            state, reason = ended.state, ended.reason
        except _Stopped as stopped:
            state, reason = "stopped", str(stopped)
        return Tuning(
            state=state,
            reason=reason,
            operators=self.names,
            culprits=self._ordered(self.culprits),
            suspects=self._ordered(set(self.suspects) - set(self.culprits)),
            given_back=self._ordered(self.given_back),
            interactions=tuple(self.interactions),
            confirmed=self.confirmed,
            smallest=self.smallest,
            evaluations=tuple(self.made),
        )

    def _baselines(self, first: int) -> int:
        """The half of the questions with which to search; the other one where *first* is unfit."""
        unfit: list[_Ended] = []
        for part in (first, 1 - first):
            try:
                self._baseline(part)
            except _Ended as ended:
                unfit.append(ended)
            else:
                self.suspects = list(self.names)
                return part
        raise unfit[0]

    def _baseline(self, part: int) -> None:
        enabled = self._outcome((), part, "baseline")
        if enabled != "fail":
            what = "it passes" if enabled == "pass" else "the verdict stays inconclusive"
            raise _Ended("nothing-fails", f"{what} with every operator enabled")
        disabled = self._outcome(self.names, part, "baseline")
        if disabled != "pass":
            what = "it fails" if disabled == "fail" else "the verdict stays inconclusive"
            raise _Ended("not-the-operators", f"{what} with all operators disabled, too")

    def _find_and_confirm(self, part: int) -> None:
        order = list(self.names)
        if self.first and len(self.first) < len(self.names):
            chosen = [name for name in self.names if name in self.first]
            others = [name for name in self.names if name not in self.first]
            order = chosen + others
            if self._outcome(chosen, part, "search") == "pass":
                order = self.suspects = chosen
        for round_ in range(_ROUNDS):
            self.culprits = self._search(order, part)
            self.suspects = []
            fresh = self._outcome(self.culprits, 1 - part, "confirm")
            if fresh == "pass":
                self.confirmed = True
                return
            if fresh == "inconclusive":
                raise _Ended("unconfirmed", "fresh questions do not decide whether it passes now")
            if round_ + 1 == _ROUNDS:
                break
            # One is missing, or what one half of the questions shows the other does not.
            part = self._baselines(1 - part)
            order = [name for name in self.names if name not in self.culprits]
        raise _Ended("unconfirmed", "whatever one half of the questions finds, the other refutes")

    def _search(self, order: Sequence[str], part: int) -> list[str]:
        kept = list(self.culprits)

        def holds(disabled: Sequence[str]) -> bool:
            passes = self._outcome(disabled, part, "search") == "pass"
            if passes:
                self.suspects = list(disabled)
            return passes

        def again(disabled: Sequence[str]) -> Sequence[str] | None:
            if self._settled(disabled, "search", "pass"):
                return None
            # What was built on that verdict goes, and it is not believed again.
            self.known[frozenset(disabled), part] = self.known[frozenset(disabled), 1 - part]
            self.suspects = list(self.names)
            return self.names

        return minimal(order, holds, kept=kept, again=again, on_kept=self._keep)

    def _keep(self, culprits: Sequence[str]) -> None:
        self.culprits = list(culprits)

    def _give_back(self) -> None:
        changed = True
        while changed:
            changed = False
            for name in list(self.culprits):
                fewer = [one for one in self.culprits if one != name]
                if self._outcome(fewer, FRESH, "give-back") != "fail" and self._settled(
                    fewer, "give-back", "pass"
                ):
                    self._return(name)
                    changed = True

    def _return(self, name: str) -> None:
        self.culprits.remove(name)
        self.given_back.append(name)
        if not self.culprits:
            self.confirmed = False
            raise _Ended("unconfirmed", "on fresh questions it passes with every operator enabled")

    def _alone(self) -> None:
        groups: list[frozenset[str]] = []
        contradicted = False
        for name in list(self.culprits):
            if self._fails_enabled([name], "alone"):
                groups.append(frozenset([name]))
                continue
            fewer = [one for one in self.culprits if one != name]
            if self._settled(fewer, "give-back", "pass"):
                # Fresh questions blamed it, and nothing else does.
                self._return(name)
            elif (group := self._with_partners(name)) is not None:
                groups.append(group)
            else:
                contradicted = True
        if len(self.culprits) == 1 or (len(groups) == len(self.culprits) == _singles(groups)):
            self.smallest = True
        elif not contradicted:
            self._smaller(groups)

    def _with_partners(self, name: str) -> frozenset[str] | None:
        """The operator with those without which it does no harm while the culprits are disabled.

        None where the verdicts contradict each other.
        """
        others = [one for one in self.names if one not in self.culprits]
        if not self._fails_enabled([name, *others], "partners"):
            return None
        group = self._failing(others, "partners", together_with=name)
        if group is not None:
            self.interactions.append(Interaction(name, self._ordered(group - {name})))
        return group

    def _failing(
        self, some: Sequence[str], purpose: Purpose, *, together_with: str | None = None
    ) -> frozenset[str] | None:
        """Operators of *some* that fail together, when all others are disabled.

        It must be known that all of *some* do. None where the verdicts contradict each other.
        """
        kept = [] if together_with is None else [together_with]

        def again(_: Sequence[str]) -> Sequence[str]:
            raise _Contradiction

        try:
            found = minimal(
                some, lambda enabled: self._fails_enabled(enabled, purpose), kept=kept, again=again
            )
        except _Contradiction:
            return None
        return frozenset(found)

    def _smaller(self, groups: list[frozenset[str]]) -> None:
        """Tries the smallest sets that meet every group of operators known to fail together."""
        while True:
            try:
                fewer = smallest_hitting_set(groups, len(self.culprits))
            except OverflowError:
                return
            if fewer is None:
                self.smallest = True
                return
            disabled = self._ordered(fewer)
            if self._settled(disabled, "smaller", "pass"):
                self.given_back.extend(one for one in self.culprits if one not in fewer)
                self.culprits = list(disabled)
                self.smallest = True
                return
            if not self._settled(disabled, "smaller", "fail"):
                return
            rest = [name for name in self.names if name not in fewer]
            group = self._failing(rest, "smaller")
            if group is None or group in groups:
                return  # the verdicts contradict each other
            groups.append(group)

    def _fails_enabled(self, enabled: Sequence[str], purpose: Purpose) -> bool:
        disabled = [name for name in self.names if name not in enabled]
        if self._outcome(disabled, FRESH, purpose) == "fail":
            return True
        return purpose == "alone" and self._settled(disabled, purpose, "fail")

    def _settled(self, disabled: Sequence[str], purpose: Purpose, wanted: Outcome) -> bool:
        """Whether both halves of the questions say so, or, where they disagree, all together."""
        said = [self._outcome(disabled, part, purpose) for part in (FRESH, SEARCH)]
        if said[0] != said[1]:
            return self._outcome(disabled, BOTH, purpose) == wanted
        return said[0] == wanted

    def _outcome(self, disabled: Sequence[str], part: int, purpose: Purpose) -> Outcome:
        key = (frozenset(disabled), part)
        if key in self.known:
            return self.known[key]
        outcome: Outcome = "inconclusive"
        for level in range(self.limits.levels):
            outcome = self._ask(Asked(key[0], part, level), purpose).outcome
            if outcome != "inconclusive":
                break
        self.known[key] = outcome
        return outcome

    def _ask(self, asked: Asked, purpose: Purpose) -> Found:
        most, seconds = self.limits.evaluations, self.limits.seconds
        if most is not None and len(self.made) >= most:
            raise _Stopped(f"stopped after {most} evaluations")
        if seconds is not None and self.clock() - self.started >= seconds:
            raise _Stopped(f"stopped after {seconds:g} s")
        evaluation = Evaluation(asked, self.evaluate(asked), purpose)
        self.made.append(evaluation)
        self.told(evaluation)
        return evaluation.found

    def _ordered(self, some: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in self.names if name in some)


def _singles(groups: Sequence[frozenset[str]]) -> int:
    return sum(len(group) == 1 for group in groups)
