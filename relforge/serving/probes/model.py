"""What a probe is, what it is given, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from relforge.engine.containers import ContainerState
from relforge.manifest.smoke import ProbeName, Smoke
from relforge.serving.client import OpenAIClient
from relforge.serving.deviceproof import DeviceProof
from relforge.serving.engines.base import PLAIN, ServerTraits
from relforge.serving.reference import GreedyText
from relforge.serving.replies import Answer, Streamed
from relforge.serving.wait import ServerProcess

QUESTIONS = {
    "en": "Write two sentences about what a library is for.",
    "zh": "请用两句话说明图书馆有什么用处。",
}
"""Asked of a model that has no reference, in the first of its languages that is here."""


class ProbeFailed(Exception):
    """The server did not do what the probe asks; the text says what it did instead."""


class ProbeNotRun(Exception):
    """The probe does not apply; the text says why."""


class Host(Protocol):
    """The containers behind a server of ours."""

    def stop(self, timeout_s: float) -> ContainerState:
        """Asks all of them to end (SIGTERM) and returns the first one's state, ended or not."""

    def execute(self, argv: Sequence[str]) -> tuple[int, bytes]:
        """Runs a command in the first one: exit status, and what it wrote."""


@dataclass
class Target:
    """One server under probe, and what earlier probes learnt from it."""

    client: OpenAIClient
    process: ServerProcess | None
    settings: Smoke
    reference: tuple[GreedyText, ...] = ()
    languages: tuple[str, ...] = ()
    traits: ServerTraits = PLAIN
    host: Host | None = None
    device: DeviceProof | None = None
    expected_version: str | None = None
    """Of the server's package in the image."""
    flaggems: str | None = None
    """Why FlagGems does not count here; None: the release says that it is used."""
    wait_port: Callable[[], None] | None = None
    """Waits until something answers on the port; None: it is ready."""
    wait: Callable[[], float] | None = None
    """Waits until the server is ready and returns the seconds since its start."""
    before_stop: Callable[[], None] | None = None
    """Reads what only a running server tells."""
    start_to_ready_s: float | None = None
    stop_s: float | None = None
    server_version: str | None = None
    max_model_len: int | None = None
    """Tokens of prompt and answer together, as the server says."""
    completion: Answer | None = None
    streamed: Streamed | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    """Greedy answers to the prompts of the reference, asked alone."""
    prose: list[Answer] = field(default_factory=list)
    """The longer answers that were read for garble."""
    requests_made: bool = False

    @property
    def prompt(self) -> str:
        if self.reference:
            return self.reference[0].prompt
        return self.questions[0]

    @property
    def max_tokens(self) -> int:
        return self.reference[0].max_tokens if self.reference else self.settings.max_tokens

    @property
    def questions(self) -> tuple[str, ...]:
        """Prompts of which no right answer is known."""
        if self.settings.prompts:
            return self.settings.prompts
        known = [QUESTIONS[tag] for tag in map(_primary, self.languages) if tag in QUESTIONS]
        return (known[0] if known else QUESTIONS["en"],)


def _primary(tag: str) -> str:
    """The language of a BCP 47 tag: ``zh`` of ``zh-Hans``."""
    return tag.split("-")[0].lower()


@dataclass(frozen=True)
class Probe:
    """``check`` returns what it saw, or raises ProbeFailed, ProbeNotRun or ServerFault."""

    name: ProbeName
    check: Callable[[Target], str]
    vital: bool = False
    """Nothing after it makes sense when it fails."""
    asks: bool = True
    """It sends requests that have to be answered in time."""
