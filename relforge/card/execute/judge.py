"""Which step can run here, and why another cannot: decided before it runs, by its words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relforge.card.execute.docker_needs import Need, Surroundings, image_host, is_local_host
from relforge.card.execute.images import Images
from relforge.card.execute.links import enters_shell, makes, statement_enters, uses
from relforge.card.execute.needs import statement_needs
from relforge.card.execute.script import docker_call
from relforge.card.execute.steps import Step

_WORDS = {
    "hardware": "needs hardware",
    "secret": "needs a secret",
    "network": "needs the network outside",
    "reader": "needs its reader",
    "host": "reaches into this machine",
}
HINTS = {"network": "--have network", "hardware": "--have hardware", "secret": "--have secret",
         "host": "--allow-host", "reader": "--set NAME=VALUE"}  # fmt: skip


@dataclass(frozen=True)
class Ruling:
    """What becomes of a step. ``present``: what it fetches is here already; ``given``: the tester
    said what it would have found out. Both count as not run, and nothing waits for them."""

    kind: Literal["run", "not-run", "present", "given", "fail"]
    reason: str = ""


@dataclass(frozen=True)
class Earlier:
    """A step that is behind. ``done``: later ones may rest on it."""

    step: Step
    done: bool
    failed: bool = False


@dataclass
class Judge:
    """What is known of host, engine and tester. ``have``: needs that are met, or accepted."""

    variables: dict[str, str]
    given: dict[str, str]
    there: Surroundings
    folder: Path
    have: frozenset[str]
    images: Images | None
    typed_inside: dict[int, bool] = field(default_factory=dict)

    def learn(self, steps: Iterable[Step]) -> None:
        """Notes which steps are typed into a shell inside a container."""
        inside = False
        for step in steps:
            inside = inside and not step.new_terminal
            self.typed_inside[step.number] = inside
            inside = inside or enters_shell(step, self.variables)

    def rule(self, step: Step, earlier: Iterable[Earlier], *, ahead: bool = False) -> Ruling:
        """``ahead``: nothing runs, so what earlier steps would bring counts as there."""
        earlier = tuple(earlier)
        if not step.runs_here:
            return Ruling("not-run", f"only shell blocks are run, this is {step.block.language}")
        blocked = self._blocked(step, earlier)
        if blocked:
            return Ruling("not-run", blocked)
        assigned = {name for s in step.script.statements for name, _ in s.assignments}
        mine = sorted(assigned & self.given.keys())
        if mine:
            return Ruling("given", f"{', '.join(mine)} was given with --set")
        present = self._present(step)
        if present:
            return Ruling("present", present)
        for need in self._needs(step):
            if need.kind not in self.have:
                hint = f" ({HINTS[need.kind]} runs it)" if need.kind != "reader" else ""
                return Ruling("not-run", f"{_WORDS[need.kind]}: {need.reason}{hint}")
        return self._about_images(step, earlier, ahead)

    def _blocked(self, step: Step, earlier: tuple[Earlier, ...]) -> str | None:
        there: dict[str, Earlier] = {}
        place: Earlier | None = None
        for one in earlier:
            for thing in makes(one.step, self.variables):
                there[thing] = one
            if one.step.new_terminal:
                place = None
            if enters_shell(one.step, self.variables):
                place = one
        for thing in sorted(uses(step, self.variables)):
            behind = there.get(thing)
            if behind is not None and not behind.done and thing[1:] not in self.given:
                return f"it rests on {_thing(thing)} of {_step(behind)}"
        if place is not None and not place.done and not step.new_terminal:
            return f"it is typed into the container of {_step(place)}"
        return None

    def _present(self, step: Step) -> str | None:
        """A pull, and nothing else, of an image that the engine has by its very digest."""
        if self.images is None or not step.script.statements:
            return None
        for statement in step.script.statements:
            calls = [docker_call(command, self.variables) for command in statement.commands]
            if len(calls) != 1 or calls[0] is None or calls[0].verb != "pull":
                return None
            reference = calls[0].image or ""
            if is_local_host(image_host(reference)) or self.images.holding(reference) is None:
                return None
        return "the engine has this very image already; nothing was fetched"

    def _needs(self, step: Step) -> Iterator[Need]:
        inside = self.typed_inside.get(step.number, False)
        found: list[Need] = []
        asks_for_devices = False
        for statement in step.script.statements:
            if inside:
                # Nothing of a container's own files is this machine's.
                needs = statement_needs(statement, self.variables, self.there, self.folder)
                found += [n for n in needs if n.kind in ("network", "secret", "reader")]
                continue
            found += statement_needs(statement, self.variables, self.there, self.folder)
            for command in statement.commands:
                call = docker_call(command, self.variables)
                options = ("device", "gpus", "runtime")
                asks_for_devices |= call is not None and any(call.values(o) for o in options)
            inside = statement_enters(statement, self.variables)
        found = [need for need in found if not self._is_given(need)]
        lacking = any(need.kind == "hardware" for need in found)
        for kind in step.marker.needs if step.marker else ():
            if not (kind == "hardware" and asks_for_devices and not lacking):
                yield Need(kind, "the card says so")
        # What is wanting comes before what is dangerous: it is the nearer reason.
        yield from sorted(found, key=lambda need: _ORDER.index(need.kind))

    def _is_given(self, need: Need) -> bool:
        return need.kind == "secret" and any(f"${name} " in need.reason for name in self.given)

    def _about_images(self, step: Step, earlier: tuple[Earlier, ...], ahead: bool) -> Ruling:
        if self.images is None:
            return Ruling("run")
        bringing = [one for one in earlier if "image" in makes(one.step, self.variables)]
        for statement in step.script.statements:
            for command in statement.commands:
                call = docker_call(command, self.variables)
                image = call.image if call is not None and call.verb != "pull" else None
                if image is None or "$" in image:
                    continue
                if ahead and any(one.done for one in bringing):
                    continue
                if self.images.holding(image) is None and self.images.find(image) is None:
                    lacking = next((one for one in bringing if not one.done), None)
                    if lacking is not None:
                        return Ruling("not-run", f"it rests on the image of {_step(lacking)}")
                    host = image_host(image)
                    if not is_local_host(host) and "network" not in self.have:
                        reason = f"the engine has no {image}, and docker would ask {host} for it"
                        return Ruling("not-run", f"{_WORDS['network']}: {reason}")
                    continue
                fault = self.images.fault(image)
                if fault is not None:
                    return Ruling("fail", fault)
        return Ruling("run")


_ORDER = ("reader", "hardware", "secret", "network", "host")


def replacements(images: Images | None, references: Iterable[str]) -> Mapping[str, str]:
    """References by digest that the engine knows under another name alone, and the id it has."""
    found: dict[str, str] = {}
    for reference in references if images is not None else ():
        assert images is not None
        held = images.holding(reference)
        if held is not None and images.find(reference) is None:
            found[reference] = held.id
    return found


def _step(one: Earlier) -> str:
    ending = "failed" if one.failed else "was not run"
    return f"step {one.step.number} (line {one.step.line}), which {ending}"


def _thing(thing: str) -> str:
    return thing if thing.startswith("$") else f"the {thing}"
