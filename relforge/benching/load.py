"""One level of load on a server that is up: the tool runs in the server's own container."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relforge.benching import machine
from relforge.benching.model import Level, Surroundings
from relforge.benching.tool import FOLDER, NAME, NotMeasured, bench_argv, read_result
from relforge.cancel import CancelToken
from relforge.engine.containers import Container, Executed
from relforge.manifest.bench import Bench, BenchLevel
from relforge.manifest.release import Release
from relforge.serving.diagnosis import diagnose, last_words
from relforge.serving.model import LaunchSpec
from relforge.serving.smoke import Served

# A proxy from the image's environment has no business between the tool and the server beside it.
_ENV = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}


@dataclass(frozen=True)
class LoadedServer:
    """A server with what the tool has to know of it. ``log`` gets all that the tool prints."""

    served: Served
    release: Release
    spec: LaunchSpec
    bench: Bench
    log: Path
    cancel: CancelToken
    image_id: str

    def run(self, level: BenchLevel, *, seed: int, raw: Path) -> Level:
        """Runs a level and keeps the tool's result file, as it wrote it, at ``raw``.

        Raises NotMeasured when the load was not answered as asked (the server's end and the time
        limit included, and an image without the tool), Cancelled.
        """
        container, client = self.served.container, self.served.client
        argv = bench_argv(self.release, self.spec, self.bench, level, seed=seed, file=raw.name)
        cache, before = machine.prefix_cache(client), machine.moment(container)
        with _ended_after(self.bench.level_timeout_s, container) as late:
            done = container.run_beside(argv, _ENV)
            self._note(argv, done)
            self.cancel.check()
            if late.is_set():
                raise NotMeasured(
                    f"{level.prompts} requests at {level.concurrency} at a time were not answered "
                    f"within {self.bench.level_timeout_s:g} s"
                )
            if not container.state().running:
                raise NotMeasured(self._how_it_ended(level))
        if done.code != 0:
            said = last_words((done.stdout + done.stderr).decode("utf-8", "replace"))
            raise NotMeasured(f"{NAME} ended with exit status {done.code}: {said}")
        after = machine.moment(container)
        share = machine.hit_share(cache, machine.prefix_cache(client))
        read = container.run_beside(("cat", f"{FOLDER}/{raw.name}"))
        if read.code != 0:
            raise NotMeasured(f"{NAME} left no result file")
        raw.write_bytes(read.stdout)
        return Level(
            figures=read_result(read.stdout, self.bench, level, seed=seed),
            surroundings=Surroundings(
                other_cores=machine.other_cores(before, after), prefix_cache_hit_share=share
            ),
        )

    def _note(self, argv: tuple[str, ...], done: Executed) -> None:
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(argv)}\n".encode())
            log.write(done.stdout + done.stderr)

    def _how_it_ended(self, level: BenchLevel) -> str:
        container = self.served.container
        state = container.state()
        cause = diagnose(container.log_text(), state)
        return f"the server {state.shown()} under {level.concurrency} requests at a time" + (
            f": {cause.explanation}\n{cause.evidence}\n{cause.remedy}" if cause else ""
        )


@contextmanager
def _ended_after(seconds: float, container: Container) -> Iterator[threading.Event]:
    """Kills the container after so long, and with it the tool that waits for its answers."""
    late = threading.Event()

    def end() -> None:
        late.set()
        container.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
