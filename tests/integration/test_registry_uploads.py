"""Uploads that are interrupted go on where they were, within a run and in the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.attesting.attachments import TAG
from relforge.errors import RelforgeError
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.store import referrers_tag
from relforge.retrying import RetryPolicy
from tests.fakes.oci_registry import FakeRegistry
from tests.support.faulty_registry import Fault, FaultyRegistry
from tests.support.images import image, signed_image
from tests.support.registries import RealRegistry, docker_registry

FAST = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
MIB = 1 << 20


def store(host: str, name: str = "team/model", **more: object) -> RegistryStore:
    settings: dict[str, object] = {"site": Site(), "policy": FAST, **more}
    return RegistryStore(Repository.parse(f"{host}/{name}"), **settings)  # type: ignore[arg-type]


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LayoutStore, str]:
    """An image with a layer of 8 MiB, which is sent in chunks of 1 MiB."""
    monkeypatch.setattr("relforge.oci.upload.CHUNK_BYTES", MIB)
    digest = image(tmp_path / "image", b"small", b"big8")
    return LayoutStore(tmp_path / "image"), digest


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def test_a_chunk_that_breaks_off_goes_on_inside(big: tuple[LayoutStore, str]) -> None:
    src, digest = big
    with FakeRegistry() as fake:
        fake.break_after = 300_000
        dst = store(fake.host)
        copy(src, dst, digest, tag="v1")
        size = sum(len(data) for data in fake.blobs.values())
        assert fake.received == size
        assert dst.manifest("v1") is not None


def test_a_long_way_may_be_interrupted_more_often_than_the_policy_tries(
    big: tuple[LayoutStore, str],
) -> None:
    """Every chunk's answer is lost once: with three attempts in all, eight chunks would not do."""
    src, digest = big
    with FakeRegistry() as fake, FaultyRegistry(fake.host) as proxy:
        proxy.faults = [Fault("lost", "PATCH", skip=number, times=1) for number in range(0, 12, 2)]
        copy(src, store(proxy.host), digest, tag="v1")
        assert sum(fault.hits for fault in proxy.faults) >= 4
        assert proxy.sent("PATCH") == sum(len(data) for data in fake.blobs.values())


def test_the_next_run_goes_on_inside_a_layer(
    big: tuple[LayoutStore, str], registry: RealRegistry, tmp_path: Path
) -> None:
    src, digest = big
    with FaultyRegistry(registry.host) as proxy:
        proxy.faults = [Fault("status", "PATCH", skip=5, status=403)]
        with pytest.raises(RelforgeError):
            copy(src, store(proxy.host, uploads=tmp_path / "uploads"), digest, tag="v1")
        (note,) = (tmp_path / "uploads").iterdir()
        assert note.stat().st_mode & 0o077 == 0
        proxy.forget()
        said: list[str] = []
        dst = store(proxy.host, uploads=tmp_path / "uploads", line=said.append)
        copy(src, dst, digest, tag="v1")
        assert any("goes on at byte" in line for line in said)
        assert proxy.sent("PATCH") < 8 * MIB
        assert list((tmp_path / "uploads").iterdir()) == []
        assert dst.manifest("v1") is not None


def test_an_upload_that_the_registry_forgot_begins_anew(
    big: tuple[LayoutStore, str], tmp_path: Path
) -> None:
    src, digest = big
    with FakeRegistry() as fake, FaultyRegistry(fake.host) as proxy:
        proxy.faults = [Fault("status", "PATCH", skip=5, status=403)]
        with pytest.raises(RelforgeError):
            copy(src, store(proxy.host, uploads=tmp_path / "uploads"), digest, tag="v1")
        fake.uploads.clear()
        proxy.forget()
        copy(src, store(proxy.host, uploads=tmp_path / "uploads"), digest, tag="v1")
        assert ("team/model", "v1") in fake.tags
        assert list((tmp_path / "uploads").iterdir()) == []


def test_a_killed_push_goes_on(registry: RealRegistry, tmp_path: Path) -> None:
    """SIGKILL in the middle of a layer; the next process sends less than the whole."""
    digest = image(tmp_path / "image", b"killed", b"big48")
    with FaultyRegistry(registry.host) as proxy:
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "import relforge.oci.upload as upload\n"
            "from relforge.manifest.site import Site\n"
            "from relforge.oci.copying import copy\n"
            "from relforge.oci.layout_store import LayoutStore\n"
            "from relforge.oci.reference import Repository\n"
            "from relforge.oci.registry import RegistryStore\n"
            "host, work, digest = sys.argv[1:]\n"
            "upload.CHUNK_BYTES = 1 << 20\n"
            "dst = RegistryStore(Repository.parse(f'{host}/team/killed'), site=Site(),"
            " uploads=Path(work, 'uploads'))\n"
            "copy(LayoutStore(Path(work, 'image')), dst, digest, tag='v1')\n"
            "print(dst.sent_bytes)\n"
        )
        argv = [sys.executable, "-c", program, proxy.host, str(tmp_path), digest]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while proxy.count("PATCH") < 8 and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        assert proxy.count("PATCH") < 48
        assert registry.tags("team/killed") == []
        proxy.forget()
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "v1" in registry.tags("team/killed")
    # Where the kill hit a chunk, this registry forgets the upload; between two it goes on.
    assert int(done.stdout) <= 49 * MIB
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_registry_that_takes_no_chunks(big: tuple[LayoutStore, str]) -> None:
    src, digest = big
    with FakeRegistry(chunks=False) as fake:
        dst = store(fake.host)
        copy(src, dst, digest, tag="v1")
        assert dst.manifest("v1") is not None
        assert fake.chunk_sizes == []


def test_a_registry_behind_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relforge.oci.upload._SMALL_CHUNK_BYTES", MIB)
    digest = image(tmp_path / "image", b"big3")
    with FakeRegistry() as fake:
        fake.most = 2 * MIB
        copy(LayoutStore(tmp_path / "image"), store(fake.host), digest, tag="v1")
        assert max(fake.chunk_sizes) == MIB
        assert ("team/model", "v1") in fake.tags


def test_a_registry_that_wants_large_chunks(big: tuple[LayoutStore, str]) -> None:
    src, digest = big
    with FakeRegistry(least=3 * MIB) as fake:
        copy(src, store(fake.host), digest, tag="v1")
        assert max(fake.chunk_sizes) == 3 * MIB


def test_memory_does_not_grow_with_a_layer(registry: RealRegistry, tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"big160")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from relforge.manifest.site import Site\n"
        "from relforge.oci.copying import copy\n"
        "from relforge.oci.layout_store import LayoutStore\n"
        "from relforge.oci.reference import Repository\n"
        "from relforge.oci.registry import RegistryStore\n"
        "host, work, digest = sys.argv[1:]\n"
        "dst = RegistryStore(Repository.parse(f'{host}/team/large'), site=Site())\n"
        "copy(LayoutStore(Path(work, 'image')), dst, digest, tag='v1')\n"
        "copy(dst, LayoutStore(Path(work, 'back')), digest, tag='v1')\n"
        # Not ru_maxrss: that also knows what its parent needed.
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    argv = [sys.executable, "-c", program, registry.host, str(tmp_path), digest]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 120_000  # kB; the layer has 160 MiB


def test_the_referrers_api_is_used_where_it_is(tmp_path: Path) -> None:
    digest, attached = signed_image(tmp_path / "image", b"x")
    with FakeRegistry() as fake:
        dst = store(fake.host)
        copy(LayoutStore(tmp_path / "image"), dst, digest, tag="v1")
        assert ("team/model", referrers_tag(digest)) not in fake.tags
        found = {one.digest: one for one in dst.referrers(digest)}
        assert set(found) == set(attached)
        # The API tells no tag; it is found out, so that a folder has it again.
        copy(dst, LayoutStore(tmp_path / "back"), digest, tag="v1")
        back = LayoutStore(tmp_path / "back")
        assert any(TAG in one.annotations for one in back.referrers(digest))
        fake.asked.clear()
        assert copy(LayoutStore(tmp_path / "back"), store(fake.host), digest, tag="v1").nothing
        assert not [asked for asked in fake.asked if asked[0] in ("PUT", "POST", "PATCH")]


def test_a_tag_is_removed_by_name_where_that_works(tmp_path: Path) -> None:
    digest = image(tmp_path / "image", b"x")
    with FakeRegistry() as fake:
        dst = store(fake.host)
        for tag in ("v1", "latest"):
            copy(LayoutStore(tmp_path / "image"), dst, digest, tag=tag)
        dst.delete_tag("v1")
        assert dst.tags() == ("latest",)
        assert dst.manifest(digest) is not None
