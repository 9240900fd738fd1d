"""From a card and the tester's wishes to a plan of what is run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.card.execute.docker_needs import Surroundings
from relforge.card.execute.images import Images, layout_beside, references_of
from relforge.card.execute.judge import Earlier, Judge, Ruling, replacements
from relforge.card.execute.links import known_variables
from relforge.card.execute.place import mirror
from relforge.card.execute.run import Plan
from relforge.card.execute.script import program, used_variables
from relforge.card.execute.session import Session
from relforge.card.execute.shell_place import EngineSide, environment
from relforge.card.execute.steps import Step, for_profiles, steps
from relforge.card.lint.document import read
from relforge.engine.cli import engine_facts, find_cli
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write
from relforge.manifest.site import EngineSite


@dataclass(frozen=True)
class Wishes:
    """What the tester said.

    ``have``: kinds of needs that are met or accepted; ``given``: values of the card's variables;
    ``limit_s``: for each step; ``project``: the folder of ``in=project``; ``home``: relforge's.
    """

    card: Path
    image: str | None
    have: frozenset[str]
    given: Mapping[str, str]
    limit_s: float
    project: Path
    home: Path


def prepare(wishes: Wishes, site: EngineSite, area: Path) -> Plan:
    """Makes the place where the card is run, below the private folder ``area``.

    Raises RelforgeError: (USAGE) for a card that cannot be read, (ENVIRONMENT) when the card needs
    an engine and none answers, (GATE) when it is about another image.
    """
    found = steps(read(wishes.card))
    given = dict(wishes.given)
    preset = _preset(found, given, wishes.card)
    variables = known_variables(found, given)
    folder = area / "card"
    try:
        mirror(wishes.card.parent, folder, wishes.home)
    except OSError as error:
        raise cannot_write(folder, error) from error
    engine, images, there = None, None, Surroundings()
    if uses_docker(found):
        facts = engine_facts(site)
        there = Surroundings(
            runtimes=facts.runtimes,
            gpus=_hands_out_gpus(facts.runtimes),
            writable=(str(folder), "/tmp"),  # noqa: S108
        )
        cli = find_cli(site)
        images = Images(cli, wishes.image, layout_beside(wishes.card.parent))
        images.check_card(found, variables)
        engine = EngineSide(cli, site, area, there, wishes.have)
        engine.install(replacements(images, references_of(found, variables)))
    elif wishes.image is not None:
        Images(find_cli(site), wishes.image, None).check_card(found, variables)
    order = for_profiles(found)
    judge = Judge(variables, given, there, folder, wishes.have, images)
    judge.learn(order)
    env = environment(area, engine, network="network" in wishes.have)
    session = Session(folder, wishes.project, env, engine, preset)
    return Plan(wishes.card, wishes.home, wishes.image, order, judge, session, wishes.limit_s)


def foreseen(plan: Plan) -> list[tuple[Step, Ruling]]:
    """What would become of each step if all that can run did well."""
    earlier: list[Earlier] = []
    rulings: list[tuple[Step, Ruling]] = []
    for step in plan.order:
        ruling = plan.judge.rule(step, earlier, ahead=True)
        rulings.append((step, ruling))
        earlier.append(Earlier(step, ruling.kind in ("run", "present", "given")))
    return rulings


def uses_docker(found: Sequence[Step]) -> bool:
    """Whether a command of the card is docker's."""
    return any(
        program(command)[0] == "docker"
        for step in found
        for statement in step.script.statements
        for command in statement.commands
    )


def _preset(found: Sequence[Step], given: dict[str, str], card: Path) -> dict[str, str]:
    """Given variables that the card uses without setting them."""
    statements = [statement for step in found for statement in step.script.statements]
    assigned = {name for statement in statements for name, _ in statement.assignments}
    used = {name for statement in statements for name in used_variables(statement.text)}
    used |= {n for s in statements for n in re.findall(r"\$\{(\w+)", s.text)}
    for name in given:
        if name not in assigned | used:
            raise RelforgeError(
                f"--set {name}: the card has no variable of that name",
                code=ExitCode.USAGE,
                where=str(card),
                hint=f"it has {', '.join(sorted(assigned | used)) or 'none'}",
            )
    return {name: value for name, value in given.items() if name not in assigned}


def _hands_out_gpus(runtimes: Sequence[str]) -> bool:
    # What `--gpus` asks for is the NVIDIA container toolkit, as a runtime or as a hook.
    return "nvidia" in runtimes or shutil.which("nvidia-container-runtime-hook") is not None
