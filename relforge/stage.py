"""What a stage is: typed inputs, one frozen result, and an event stream; it can be cancelled.

A stage runs the same in this process, in a pool or on another host: everything it reads is in
its picklable ``Job``; the only things from outside are the ``StageContext``'s two channels.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from relforge import redact
from relforge.cancel import CancelToken
from relforge.events import Event, StageLine, Verdict
from relforge.files import Output
from relforge.frozen import Frozen, content_key
from relforge.manifest.site import Site

if TYPE_CHECKING:
    from relforge.plan import Planning, Subject


class Skip(Frozen):
    """Why a stage does not run for a release."""

    kind: Literal["not-needed", "not-built-yet", "not-asked-for"]
    reason: str


class Resources(Frozen):
    """What a stage needs while it runs; preflight asks this host for it before anything runs.

    ``disk_bytes`` are needed in relforge's home, ``engine_disk_bytes`` in the engine's data root.
    """

    cpu_cores: int = 1
    memory_bytes: int = 0
    disk_bytes: int = 0
    engine_disk_bytes: int = 0
    engine: bool = False
    device: str | None = None
    shared_device: bool = False
    """Whether jobs use the device side by side, as a processor: within cores and memory."""
    registry: bool = False
    """A connection to registries, hubs or other places that releases are sent to."""


class Part(Frozen):
    """A piece of a stage's work that several releases share, by what it is made of."""

    key: str
    name: str
    """For people: ``source vllm``."""
    needs: Resources = Resources()


def in_turn(needs: Iterable[Resources]) -> Resources:
    """What stages need that run one after another on one host: disk stays used, the rest is freed.

    Stages of one release name one device or none.
    """
    every = tuple(needs)
    return Resources(
        cpu_cores=max((one.cpu_cores for one in every), default=0),
        memory_bytes=max((one.memory_bytes for one in every), default=0),
        disk_bytes=sum(one.disk_bytes for one in every),
        engine_disk_bytes=sum(one.engine_disk_bytes for one in every),
        engine=any(one.engine for one in every),
        device=next((one.device for one in every if one.device), None),
        shared_device=any(one.shared_device for one in every),
    )


class StageResult(Frozen):
    """What every stage returns; subclasses add their own fields."""

    verdict: Verdict | None = None
    reason: str = ""
    outputs: tuple[Output, ...] = ()

    def evidence(self) -> dict[str, Path]:
        """Files to publish, by their names below ``evidence/`` of a release's folder."""
        return {}

    def attested(self) -> dict[str, dict[str, Any]]:
        """Predicates that the stage itself makes, by predicate type, beside what is said of its
        verdict and its evidence (``attesting/results.py``)."""
        return {}


class StageInputs(Frozen):
    """What decides a stage's result: content and hashes only, never a path of this machine."""


InputsT = TypeVar("InputsT", bound=StageInputs)
ResultT = TypeVar("ResultT", bound=StageResult)


class StageEnv(Frozen):
    """Where things lie on the host that runs the stage; never part of a key."""

    home: Path
    project_roots: tuple[Path, ...]
    site: Site
    run_id: str
    run_dir: Path
    release: str
    dist: Path


@dataclass(frozen=True)
class Job(Generic[InputsT]):
    """One stage of one release, ready to run anywhere: picklable."""

    stage: str
    key: str
    inputs: InputsT
    upstream: Mapping[str, StageResult]
    env: StageEnv
    secrets: tuple[str, ...] = ()
    """What ``Stage.secrets`` says: fields of the site configuration of the host that runs it."""


@dataclass(frozen=True)
class StageContext:
    """The two channels a stage gets from outside."""

    release: str
    stage: str
    cancel: CancelToken
    emit: Callable[[Event], None] = field(default=lambda _event: None)

    def line(self, text: str) -> None:
        """Writes one line to the stage's log and the live console; secrets are redacted."""
        self.emit(
            StageLine(
                release=self.release, stage=self.stage, text=redact.text(text), time_s=time.time()
            )
        )


class Stage(ABC, Generic[InputsT, ResultT]):
    """One step of the pipeline.

    ``revision`` is raised whenever the same inputs would give another result than before.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    revision: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ()
    """Earlier stages whose results ``run`` reads from ``job.upstream``."""
    result_type: ClassVar[type[StageResult]]
    kept: ClassVar[bool] = True
    """False for a stage whose result is this run's alone: never reused, never kept in the store."""
    cheap_again: ClassVar[bool] = False
    """True for a stage whose outputs are soon made again where they got lost on their way."""
    alone: ClassVar[bool] = False
    """True for a stage that measures time: nothing else runs on its host meanwhile."""
    check_only: ClassVar[bool] = False
    """True for a stage whose result is a look at this host: it runs whenever anything else does.

    It is planned last, knowing which other stages will run (``Planning.work``), and runs first.
    """

    @abstractmethod
    def plan(self, planning: Planning) -> InputsT | Skip:
        """The inputs, or why the stage is skipped. Pure: reads manifests, lock, earlier keys."""

    def resources(self, inputs: InputsT) -> Resources:  # noqa: ARG002
        """What ``run`` needs."""
        return Resources()

    def parts(self, inputs: InputsT) -> tuple[Part, ...]:  # noqa: ARG002
        """What ``run`` would make first and other releases may need as well; each is made once."""
        return ()

    def run_part(self, part: Part, job: Job[InputsT], ctx: StageContext) -> None:  # noqa: ARG002
        """Makes one of ``parts``, where ``run`` then finds it. Raises what ``run`` raises."""
        raise AssertionError(f"stage {self.name} has no part {part.name}")

    def secrets(self, inputs: InputsT, subject: Subject) -> tuple[str, ...]:  # noqa: ARG002
        """Fields of the site configuration that name the secrets ``run`` needs (``identities``)."""
        return ()

    @abstractmethod
    def run(self, job: Job[InputsT], ctx: StageContext) -> ResultT:
        """Does the work. Raises RelforgeError for expected failures."""

    def key(self, inputs: InputsT) -> str:
        """The content key of the stage's result."""
        return content_key({"stage": self.name, "revision": self.revision, "inputs": inputs})

    def unusable(self, result: ResultT, subject: Subject) -> str | None:  # noqa: ARG002
        """Why an unaltered earlier result does not serve this run, or None."""
        return None

    def outcome(self, result: ResultT) -> str:
        """One short phrase for the console, e.g. a digest or a count."""
        return result.reason
