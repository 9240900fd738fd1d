"""The images that a card names, against the one that is to be tested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from relforge.card.execute.script import docker_call
from relforge.card.execute.steps import Step
from relforge.engine.cli import DockerCli
from relforge.engine.images import EngineImage, find_image
from relforge.engine.layout import ImageFacts, describe
from relforge.errors import ExitCode, RelforgeError

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass
class Images:
    """What the engine has, and what it has to be.

    ``wanted``: a manifest digest, or None where any image will do. ``beside``: the image in the
    layout that lies beside the card.
    """

    cli: DockerCli
    wanted: str | None
    beside: ImageFacts | None
    seen: dict[str, EngineImage | None] = field(default_factory=dict)

    def find(self, reference: str) -> EngineImage | None:
        """The engine's image of that name. One that was there once is not asked for again."""
        if self.seen.get(reference) is None:
            self.seen[reference] = find_image(reference, cli=self.cli)
        return self.seen[reference]

    def holding(self, reference: str) -> EngineImage | None:
        """The engine's image with the digest of a reference, under whatever name."""
        name, at, digest = reference.partition("@")
        if not at:
            return None
        found = self.find(reference) or self.find(digest)
        if found is None and self.beside is not None and self.beside.digest == digest:
            found = self.find(self.beside.config_digest)
        return found if found is not None or not name else None

    def fault(self, reference: str) -> str | None:
        """Why the engine's image of that name is not the one to be tested; None when it is."""
        if self.wanted is None:
            return None
        digest = reference.partition("@")[2]
        if digest:
            return None if digest == self.wanted else _not_that(reference, digest, self.wanted)
        found = self.find(reference)
        if found is None:
            return f"the engine has no image {reference}"
        accepted = {self.wanted}
        if self.beside is not None and self.beside.digest == self.wanted:
            accepted |= {self.beside.alone.digest, self.beside.config_digest}
        repository = reference.rpartition(":")[0] if _has_tag(reference) else reference
        if found.id in accepted:
            return None
        same = self.find(f"{repository}@{self.wanted}")
        if same is not None and same.id == found.id:
            return None
        return _not_that(reference, found.id, self.wanted)

    def check_card(self, steps: Iterable[Step], variables: dict[str, str]) -> None:
        """Raises RelforgeError (GATE) when the card is about another image than the wanted one."""
        if self.wanted is None:
            return
        if not _DIGEST.match(self.wanted):
            raise RelforgeError(
                f"{self.wanted!r} is no digest",
                code=ExitCode.USAGE,
                hint="--image sha256:... (64 hexadecimal digits), as the card's image table has it",
            )
        references = references_of(steps, variables)
        if not references:
            raise _refused("the card starts no image", "no docker command names one", self.wanted)
        for reference in references:
            digest = reference.partition("@")[2]
            if digest:
                if digest != self.wanted:
                    raise _refused(
                        "the card is about another image", f"it runs {reference}", self.wanted
                    )
            elif self.beside is not None:
                if self.beside.digest != self.wanted:
                    raise _refused(
                        "the image beside the card is another one",
                        f"its layout holds {self.beside.digest}",
                        self.wanted,
                    )
            elif (fault := self.fault(reference)) is not None:
                raise _refused("the card's image is another one", fault, self.wanted)


def references_of(steps: Iterable[Step], variables: dict[str, str]) -> tuple[str, ...]:
    """The images that a card pulls and runs, as far as its words tell; each once."""
    found: dict[str, None] = {}
    for step in steps:
        for statement in step.script.statements:
            for command in statement.commands:
                call = docker_call(command, variables)
                if call is not None and call.image and "$" not in call.image:
                    found[call.image] = None
    return tuple(found)


def layout_beside(folder: Path) -> ImageFacts | None:
    """The image of ``image/`` in a published folder. Raises RelforgeError (GATE): damaged."""
    layout = folder / "image"
    return describe(layout, code=ExitCode.GATE) if (layout / "oci-layout").is_file() else None


def _has_tag(reference: str) -> bool:
    return ":" in reference.rpartition("/")[2]


def _not_that(reference: str, got: str, wanted: str) -> str:
    return f"{reference} is {got}, to be tested is {wanted}"


def _refused(what: str, why: str, wanted: str) -> RelforgeError:
    return RelforgeError(
        what,
        code=ExitCode.GATE,
        why=f"{why}, to be tested is {wanted}",
        hint="test the card of that image, or name the digest that this card shows",
    )
