"""Toy stages for a cluster: what one does on whatever host it runs is told by its inputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from relforge import proc
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.executor.ray_host import WorkerPlace
from relforge.files import Output, cannot_write, sha256_file, stamp
from relforge.manifest.site import Site
from relforge.plan import Planning
from relforge.stage import (
    Job,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageEnv,
    StageInputs,
    StageResult,
)


class ErrandInputs(StageInputs):
    """What is done on the host (see ``Errand.run``), and what the host has to have."""

    does: dict[str, Any] = {}
    needs: Resources = Resources(cpu_cores=0)
    architecture: str | None = None


class ErrandResult(StageResult):
    """``host`` did it; ``read`` are the hashes of earlier results' files as they lay there."""

    host: str
    read: tuple[str, ...] = ()
    folder: Path | None = None
    nested: dict[str, Output] = {}


class Errand(Stage[ErrandInputs, ErrandResult]):
    """``does``: ``note`` FILE gets a line when it begins; ``sleep_s``; ``child`` FILE gets the id
    of a process that sleeps along; ``makes`` BYTES of a file; ``fills`` BYTES of the home's disk;
    ``raises``; ``dies`` while FILE has so few lines; ``says`` a line; or it is ``quiet``."""

    name = "errand"
    cheap_again = True
    title = "errand"
    result_type = ErrandResult

    def plan(self, planning: Planning) -> ErrandInputs | Skip:
        return Skip(kind="not-needed", reason="never planned")

    def resources(self, inputs: ErrandInputs) -> Resources:
        return inputs.needs

    def run(self, job: Job[ErrandInputs], ctx: StageContext) -> ErrandResult:
        does, home = job.inputs.does, job.env.home
        place = WorkerPlace.here()
        host = place.name if place else "driver"
        if note := does.get("note"):
            with Path(note).open("a") as file:
                file.write(f"{host} {os.getpid()}\n")
        if not does.get("quiet"):
            ctx.line(does.get("says", f"at work on {host}"))
            (job.env.run_dir / "own.log").write_text(f"log of {host}\n")
        if len(Path(does.get("note", os.devnull)).read_text().splitlines()) <= does.get("dies", -1):
            os.kill(os.getpid(), 9)
        read = tuple(
            sha256_file(output.path) for one in job.upstream.values() for output in one.outputs
        )
        if child := does.get("child"):
            argv = ("sh", "-c", 'echo $$ > "$0"; exec sleep 300', child)
            proc.run(argv, code=ExitCode.BUG, cancel=ctx.cancel)
        ctx.cancel.sleep(does.get("sleep_s", 0))
        if does.get("raises") == "bug":
            raise ZeroDivisionError("a bug")
        if does.get("raises"):
            raise RelforgeError(
                "it did not work",
                code=ExitCode(does["raises"]),
                log=str(job.env.run_dir / "own.log"),
            )
        outputs: tuple[Output, ...] = ()
        if size := does.get("makes"):
            folder = Store(home).folder(self.name, job.key)
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "made.bin"
            path.write_bytes(bytes(range(256)) * (size // 256))
            outputs = (stamp(path), Store(home).put_blob(b"small"))
        if size := does.get("fills"):
            path = home / "store" / "full.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("wb") as file:
                    for _ in range(size >> 20):
                        file.write(bytes(1 << 20))
            except OSError as error:
                path.unlink()
                raise cannot_write(path, error) from error
            path.unlink()
        return ErrandResult(
            host=host, read=read, outputs=outputs,
            folder=outputs[0].path.parent if outputs else None,
            nested={"first": outputs[0]} if outputs else {},
        )  # fmt: skip


class Measurement(Errand):
    """What nobody wants to do again."""

    cheap_again = False


def errand(
    home: Path,
    *,
    needs: Resources | None = None,
    upstream: dict[str, StageResult] | None = None,
    site: Site | None = None,
    roots: tuple[Path, ...] = (),
    secrets: tuple[str, ...] = (),
    architecture: str | None = None,
    release: str = "toy",
    **does: Any,
) -> Job[ErrandInputs]:
    """A job as a run would make it, on the driver whose home that is."""
    run_dir = home / "runs" / "one" / release
    run_dir.mkdir(parents=True, exist_ok=True)
    inputs = ErrandInputs(
        does=does, needs=needs or Resources(cpu_cores=0, device="dev_a"), architecture=architecture
    )
    env = StageEnv(
        home=home, project_roots=roots, site=site or Site(), run_id="one", run_dir=run_dir,
        release=release, dist=home.parent / "dist",
    )  # fmt: skip
    return Job("errand", Errand().key(inputs), inputs, upstream or {}, env, secrets)


def gone(pid: int) -> bool:
    """Whether no such process is left, or only its remains."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def device_manifests(project: Path, *names: str) -> Path:
    """A project that knows these devices, each of which has eight accelerators and no query."""
    text = (Path(__file__).parents[2] / "manifests/devices/cpu_x86.yaml").read_text()
    folder = project / "manifests" / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows = [row for row in text.splitlines() if not row.startswith(("name:", "aliases:"))]
        rows = [row for row in rows if not row.startswith("default_release:")]
        (folder / f"{name}.yaml").write_text(f"name: {name}\n" + "\n".join(rows) + "\n")
    return project


__all__ = ["Errand", "ErrandInputs", "ErrandResult", "device_manifests", "errand", "gone"]
