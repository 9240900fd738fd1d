"""A worker's side of a job: files in, the stage, files out; with the worker's own home and site."""

from __future__ import annotations

import contextlib
import pickle
import threading
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relforge import redact
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.events import Event
from relforge.executor.ray_calls import DeskCalls
from relforge.executor.ray_host import Unfit, WorkerPlace
from relforge.executor.ray_paths import moved
from relforge.executor.ray_returns import Returned, give_back
from relforge.executor.ray_sent import Sent
from relforge.executor.ray_version import own_code, own_version
from relforge.executor.ray_worksite import full_disk, looked_at, own_large_files, receive
from relforge.in_use import using
from relforge.manifest.site_file import load_site
from relforge.stage import StageContext, StageResult

_TELL_S = 0.1
_INTERRUPT_S = 0.2


@dataclass(frozen=True)
class Answer:
    """How an attempt ended. ``unfit``: the host's fault, another host may do better.

    ``outcome`` is the result with told paths, or what the stage raised; ``events`` are the last
    ones. ``files`` are those that the driver has to put in their places.
    """

    host: str
    node_id: str
    outcome: StageResult | BaseException
    unfit: bool = False
    events: tuple[dict[str, Any], ...] = ()
    files: tuple[Returned, ...] = ()


@dataclass(frozen=True)
class Header:
    """What is read before anything else of a job is."""

    job: str
    version: str


def run_attempt(header: Header, payload: bytes, desk: Any, node_id: str) -> Answer:
    """One attempt at a job, in a process of a worker's Ray node. Never raises what a stage raises.

    KeyboardInterrupt is how Ray cancels: the stage's token is then set, and its end waited for.
    """
    place = WorkerPlace.here()
    host = place.name if place else "a Ray node"
    attempt = Attempt(header, payload, desk, node_id, host, place)
    done = threading.Event()

    def work() -> None:
        try:
            attempt.run()
        finally:
            done.set()

    thread = threading.Thread(target=work, name="relforge-job")
    thread.start()
    # Not join(): where an interrupt meets it, it takes the thread for ended. Ray's interrupt is no
    # signal, and is seen only when a wait ends.
    while not done.is_set():
        try:
            done.wait(_INTERRUPT_S)
        except KeyboardInterrupt:
            attempt.cancel.cancel("cancelled")
    assert attempt.answer is not None
    return attempt.answer


@dataclass
class Attempt:
    """One attempt; ``answer`` is there when ``run`` has returned."""

    header: Header
    payload: bytes
    desk: Any
    node_id: str
    host: str
    place: WorkerPlace | None
    cancel: CancelToken = field(default_factory=CancelToken)
    answer: Answer | None = None

    def run(self) -> None:
        calls = DeskCalls(
            self.desk, self.header.job, uuid.uuid4().hex, self.host, self.node_id, self.cancel
        )
        with Teller(calls.tell) as teller:
            try:
                with self._in_use():
                    self.answer = self._run(calls, teller)
            except BaseException as error:  # noqa: BLE001 (it is the driver's to judge)
                self.answer = self._failed(error)
        self.answer = replace(self.answer, events=teller.rest())

    def _in_use(self) -> contextlib.AbstractContextManager[None]:
        """Nobody collects this host's home while the job works."""
        if self.place is None:
            return contextlib.nullcontext()
        purpose = f"a job of {self.header.job}"
        return using(self.place.home, purpose, cancel=self.cancel)

    def _run(self, calls: DeskCalls, teller: Teller) -> Answer:
        if self.place is None:
            raise Unfit(
                "a Ray node that relforge did not start got a job",
                code=ExitCode.ENVIRONMENT,
                where=self.host,
                hint="start it with relforge worker",
            )
        if own_code() != self.place.code:
            raise Unfit(
                f"{self.host} would run another relforge than its own",
                code=ExitCode.ENVIRONMENT,
                where=self.host,
                why=f"it was started with {self.place.code}, the job found {own_code()}",
                hint="start the run from a folder that holds no relforge",
            )
        if self.header.version != own_version():
            raise Unfit(
                f"{self.host} has another relforge",
                code=ExitCode.ENVIRONMENT,
                where=self.host,
                why=f"the job is of {self.header.version}, the host has {own_version()}",
                hint="install the same version on all hosts, and start their workers again",
            )
        calls.begin()
        sent = pickle.loads(self.payload)  # noqa: S301 (the driver is ours: docs/ray.md)
        assert isinstance(sent, Sent)
        site = load_site(self.place.site)
        ctx = StageContext(sent.job.env.release, sent.job.stage, self.cancel, teller.put)
        large = own_large_files(sent, site, ctx)
        job, places = receive(sent, self.place, site, calls, ctx, large)
        self._told = places.told
        looked_at(sent, self.place, job.env, ctx)
        try:
            result = sent.stage.run(job, ctx)
        except BaseException:
            # What was logged until then is what people need now.
            with contextlib.suppress(Exception):
                self._logs = give_back(job, None, places, self.place.home, calls)
            raise
        assert isinstance(result, StageResult)
        # What was made of sealed sources lies nowhere before it was searched; what was measured is
        # not measured again because a place did not answer.
        sealed = "identities" in sent.secrets
        outward = large if sent.stage.cheap_again and not sealed else None
        files = give_back(job, result, places, self.place.home, calls, outward)
        return Answer(self.host, self.node_id, moved(result, places.told), files=files)

    _logs: tuple[Returned, ...] = ()
    _told: Callable[[Path], Path] | None = None

    def _failed(self, error: BaseException) -> Answer:
        unfit = isinstance(error, Unfit) or full_disk(error)
        outcome: BaseException = error
        if isinstance(error, RelforgeError):
            where = error.where or ""
            if where != self.host and not where.startswith(f"{self.host}: "):
                where = f"{self.host}: {where}" if where else self.host
            # The driver does not know this host's secrets.
            outcome = RelforgeError(
                redact.text(error.what),
                code=ExitCode.ENVIRONMENT if full_disk(error) else error.code,
                where=redact.text(where), why=error.why and redact.text(error.why),
                hint=error.hint and redact.text(error.hint),
                log=str(self._told(Path(error.log))) if error.log and self._told else None,
            )  # fmt: skip
        elif unfit:
            outcome = RelforgeError(
                "the disk is full",
                code=ExitCode.ENVIRONMENT,
                where=self.host,
                why=redact.text(str(error)),
                hint=f"free disk space on {self.host}, then run the same command again",
            )
        elif not isinstance(error, Cancelled):
            text = redact.text("".join(traceback.format_exception(error)))
            outcome = RuntimeError(f"on {self.host}:\n{text}")
        return Answer(self.host, self.node_id, outcome, unfit, files=self._logs)


class Teller:
    """Events on their way to the driver, in batches and in their order."""

    def __init__(self, tell: Callable[[list[dict[str, Any]]], None]) -> None:
        self._tell = tell
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def put(self, event: Event) -> None:
        with self._lock:
            self._waiting.append(event.model_dump(mode="json"))
            if self._thread is None:
                # Most jobs of a moment say nothing, or all of it at their end.
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def rest(self) -> tuple[dict[str, Any], ...]:
        """What was not told yet."""
        with self._lock:
            rest, self._waiting = tuple(self._waiting), []
        return rest

    def _run(self) -> None:
        while not self._stop.wait(_TELL_S):
            if waiting := self.rest():
                try:
                    self._tell(list(waiting))
                except Exception:  # noqa: BLE001 (nobody listens any more: the job is another's)
                    return


def attempt_task() -> Any:
    """``run_attempt`` as Ray runs it; imported by workers from their own copy of relforge."""
    import ray

    return ray.remote(_attempt)


def _attempt(header: Header, payload: bytes, desk: list[Any]) -> bytes:
    import ray

    answer = run_attempt(header, payload, desk[0], ray.get_runtime_context().get_node_id())
    return pickle.dumps(answer)
