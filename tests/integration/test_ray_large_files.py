"""Large files between hosts of a real Ray cluster, through a folder or a registry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.events import Event, StageLine
from relforge.executor.ray_executor import ray_executor
from relforge.stage import Resources, StageContext
from tests.e2e.conftest import command
from tests.support.ray_fleet import Fleet, fleet
from tests.support.ray_toys import Errand, ErrandResult, Measurement, device_manifests, errand
from tests.support.registries import RealRegistry, docker_registry

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("ray")]
LARGE_BYTES = 40 << 20
SMALL_BYTES = len(b"small")
AT_LEAST = 1 << 20
SECRETS_OF = "north"
"""The host that has a key of its own."""


@dataclass(frozen=True)
class Scene:
    """``north`` and ``south`` share a folder, ``east`` and ``west`` a registry; each host has a
    device of its name."""

    cluster: Fleet
    folder: Path
    registry: RealRegistry
    large: dict[str, dict[str, Any]]

    def driver(self, home: Path, large: dict[str, Any] | None) -> Driver:
        return Driver(self.cluster, home, large)

    def in_folder(self) -> list[Path]:
        return [path for path in self.folder.glob("*/*") if len(path.name) == 64]


class Driver:
    """A home of a driver, and what it was told."""

    def __init__(self, cluster: Fleet, home: Path, large: dict[str, Any] | None) -> None:
        self.home, self.lines = home, list[str]()
        self._context = ray_executor(cluster.site(home, large_files=large), home)

    def __enter__(self) -> Driver:
        self.executor = self._context.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)

    def run(self, host: str, stage: Errand | None = None, **words: Any) -> ErrandResult:
        job = errand(self.home, needs=Resources(cpu_cores=0, device=f"dev_{host}"), **words)
        ctx = StageContext("toy", "errand", CancelToken(), self._told)
        found = self.executor.execute(stage or Errand(), job, ctx)
        assert isinstance(found, ErrandResult)
        assert found.host == host
        return found

    def bytes_through_the_driver(self) -> int:
        sent, received = self.executor.counts()
        return sum(sent.values()) + sum(received.values())

    def _told(self, event: Event) -> None:
        if isinstance(event, StageLine):
            self.lines.append(event.text)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("large")
    folder = root / "shared"
    folder.mkdir()
    make_keys = command("keys", "new", "--out", str(root / "keys"), "--name", "own")
    subprocess.run(make_keys, check=True, capture_output=True)
    key = root / "keys" / "own.age.key"
    hosts = ("north", "south", "east", "west")
    project = device_manifests(root / "project", *(f"dev_{host}" for host in hosts))
    with docker_registry(root / "registry") as registry, fleet(root / "fleet") as cluster:
        in_folder = {"folder": str(folder), "at_least_bytes": AT_LEAST}
        in_registry = {"registry": f"{registry.host}/transit/files", "at_least_bytes": AT_LEAST}
        large = {"folder": in_folder, "registry": in_registry}
        for host in hosts:
            own = in_folder if host in ("north", "south") else in_registry
            ray = {
                "object_store_bytes": 100_000_000, "token_file": str(cluster.token),
                "large_files": own,
            }  # fmt: skip
            more: dict[str, Any] = {"identities": [str(key)]} if host == SECRETS_OF else {}
            words = ("--device", f"dev_{host}", "--project", str(project))
            cluster.join(host, *words, ray=ray, **more)
        yield Scene(cluster, folder, registry, large)


@pytest.mark.parametrize(
    ("place", "maker", "reader"), [("folder", "north", "south"), ("registry", "east", "west")]
)
def test_a_large_file_goes_once_and_not_through_the_driver(
    scene: Scene, tmp_path: Path, place: str, maker: str, reader: str
) -> None:
    with scene.driver(tmp_path / "home", scene.large[place]) as driver:
        made = driver.run(maker, makes=LARGE_BYTES)
        large, small = made.outputs
        assert large.path.stat().st_size == LARGE_BYTES
        assert large.path.is_relative_to(driver.home)
        assert driver.bytes_through_the_driver() < AT_LEAST
        read = driver.run(reader, upstream={"x": made})
        assert read.read == (large.sha256, small.sha256)
        assert driver.bytes_through_the_driver() < AT_LEAST
        assert not [line for line in driver.lines if "through the driver" in line]
    if place == "folder":
        assert [path.name for path in scene.in_folder()] == [large.sha256]
    else:
        assert scene.registry.has(f"sha256:{large.sha256}")


def test_what_is_altered_there_comes_from_the_driver(scene: Scene, tmp_path: Path) -> None:
    with scene.driver(tmp_path / "home", scene.large["folder"]) as driver:
        made = driver.run("north", makes=LARGE_BYTES + 256)
        (kept,) = [p for p in scene.in_folder() if p.name == made.outputs[0].sha256]
        kept.write_bytes(b"\1" * kept.stat().st_size)
        read = driver.run("south", upstream={"x": made})
        assert read.read[0] == made.outputs[0].sha256
        (line,) = [line for line in driver.lines if "through the driver" in line]
        assert "came as another one" in line
        assert driver.bytes_through_the_driver() > LARGE_BYTES


def test_what_is_made_of_sealed_sources_goes_through_the_driver(
    scene: Scene, tmp_path: Path
) -> None:
    """Nobody else may read it before it was searched."""
    with scene.driver(tmp_path / "home", scene.large["folder"]) as driver:
        made = driver.run(SECRETS_OF, makes=LARGE_BYTES + 512, secrets=("identities",))
        assert made.outputs[0].path.stat().st_size == LARGE_BYTES + 512
        assert driver.bytes_through_the_driver() > LARGE_BYTES
    assert made.outputs[0].sha256 not in [path.name for path in scene.in_folder()]


def test_what_was_measured_does_not_depend_on_the_place(scene: Scene, tmp_path: Path) -> None:
    with scene.driver(tmp_path / "home", scene.large["folder"]) as driver:
        made = driver.run("south", Measurement(), makes=LARGE_BYTES + 768)
        assert made.outputs[0].path.stat().st_size == LARGE_BYTES + 768
        assert driver.bytes_through_the_driver() > LARGE_BYTES
    assert made.outputs[0].sha256 not in [path.name for path in scene.in_folder()]


def test_hosts_that_see_another_place_do_without(scene: Scene, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number, large in enumerate(({"folder": str(other)}, None)):
        with scene.driver(tmp_path / f"home-{number}", large) as driver:
            made = driver.run("north", makes=LARGE_BYTES + 1024)
            assert made.outputs[0].path.stat().st_size == LARGE_BYTES + 1024
            assert driver.bytes_through_the_driver() > LARGE_BYTES
    assert made.outputs[0].sha256 not in [path.name for path in scene.in_folder()]


def test_a_folder_that_is_not_there_is_told_before_anything_runs(
    scene: Scene, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    with (
        pytest.raises(RelforgeError) as caught,
        scene.driver(tmp_path / "home", {"folder": str(gone)}),
    ):
        pass
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.where == str(gone)
    assert "ray.large_files" in (caught.value.why or "")
