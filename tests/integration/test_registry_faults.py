"""Registries that fail: no tag ever points to something incomplete, and the next run completes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.tar_store import TarStore
from relforge.oci.tree import read_tree
from relforge.retrying import RetryPolicy
from tests.support.faulty_registry import Fault, FaultyRegistry
from tests.support.images import attachment, signed_image
from tests.support.registries import RealRegistry, docker_registry

FAST = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
UPLOADS = r"/blobs/uploads/"
BLOB = r"/blobs/sha256:"
MANIFEST = r"/manifests/"


class Place(NamedTuple):
    registry: RealRegistry
    proxy: FaultyRegistry

    def store(self, name: str, **more: object) -> RegistryStore:
        repository = Repository.parse(f"{self.proxy.host}/{name}")
        settings: dict[str, object] = {"site": Site(), "policy": FAST, **more}
        return RegistryStore(repository, **settings)  # type: ignore[arg-type]


class Image(NamedTuple):
    layout: LayoutStore
    digest: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    work = tmp_path_factory.mktemp("registry")
    with docker_registry(work) as registry, FaultyRegistry(registry.host) as proxy:
        yield Place(registry, proxy)


@pytest.fixture(autouse=True)
def no_faults(place: Place) -> Iterator[None]:
    yield
    place.proxy.forget()


@pytest.fixture
def image(tmp_path: Path, request: pytest.FixtureRequest) -> Image:
    digest, _ = signed_image(tmp_path / "image", request.node.name.encode(), b"big2")
    return Image(LayoutStore(tmp_path / "image"), digest)


def name_of(request: pytest.FixtureRequest) -> str:
    letters = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return "faults/" + "-".join(part for part in letters.split("-") if part)[:100]


def require_sound(place: Place, name: str, image: Image) -> None:
    """Asked of the disk behind the registry: a tag is there only with all that it leads to."""
    if "v1" not in place.registry.tags(name):
        return
    tree = read_tree(image.layout, image.digest)
    wanted = [m.descriptor.digest for m in (*tree.images, *tree.attached)]
    for digest in (*wanted, *(blob.digest for blob, _ in tree.blobs)):
        assert place.registry.has(digest), f"the tag is there, {digest} is not"


WORDS = {
    401: "it wants a login",
    403: "the login may not do that",
    404: "it does not know the repository",
    405: "does not allow",
    409: "contradicts what it has",
    429: "it asks to slow down",
    500: "it failed itself",
    503: "it failed itself",
}
STEPS = {
    "blob-head": ("HEAD", BLOB),
    "upload-start": ("POST", UPLOADS),
    "chunk": ("PATCH", UPLOADS),
    "blob-put": ("PUT", UPLOADS),
    "manifest-put": ("PUT", MANIFEST),
    "tag-put": ("PUT", r"/manifests/v1$"),
    "manifest-get": ("GET", MANIFEST),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, 500, 503])
def test_a_registry_that_goes_on_refusing(
    place: Place, image: Image, status: int, step: str, request: pytest.FixtureRequest
) -> None:
    name = name_of(request)
    method, path = STEPS[step]
    headers = {"Retry-After": "0"} if status == 429 else {}
    place.proxy.faults = [Fault("status", method, path, status=status, headers=headers)]
    asks_only = status == 404 and step in ("blob-head", "manifest-get")
    if status == 404 and step == "chunk":
        # That is how some refuse chunks: they get content in one piece.
        copy(image.layout, place.store(name), image.digest, tag="v1")
        assert place.proxy.sent("PUT", UPLOADS) > 2 << 20
        require_sound(place, name, image)
        return
    with pytest.raises(RelforgeError) as caught:
        copy(image.layout, place.store(name), image.digest, tag="v1")
    assert caught.value.code is ExitCode.PUBLISH
    assert caught.value.hint
    if not asks_only:
        assert WORDS[status] in (caught.value.why or ""), caught.value
    assert place.registry.tags(name).count("v1") == 0 or asks_only
    require_sound(place, name, image)

    place.proxy.forget()
    there = [b.digest for b, _ in read_tree(image.layout, image.digest).blobs
             if place.store(name).has_blob(b.digest)]  # fmt: skip
    place.proxy.forget()
    report = copy(image.layout, place.store(name), image.digest, tag="v1")
    assert {piece.digest for piece in report.pieces if piece.state == "there"} >= set(there)
    sent = sum(p.size for p in report.pieces if p.state == "sent" and p.kind != "manifest"
               and p.media_type != "application/vnd.oci.image.manifest.v1+json")  # fmt: skip
    assert place.proxy.sent("PATCH") == sent
    assert "v1" in place.registry.tags(name)
    require_sound(place, name, image)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["status", "reset", "lost", "truncate"])
def test_a_passing_fault_is_passed(
    place: Place, image: Image, kind: str, step: str, request: pytest.FixtureRequest
) -> None:
    name = name_of(request)
    method, path = STEPS[step]
    fault = Fault(kind, method, path, status=503, times=1)  # type: ignore[arg-type]
    place.proxy.faults = [fault]
    dst = place.store(name)
    copy(image.layout, dst, image.digest, tag="v1")
    assert fault.hits == 1
    assert "v1" in place.registry.tags(name)
    require_sound(place, name, image)


def test_the_time_that_a_registry_asks_for_is_waited(
    place: Place, image: Image, request: pytest.FixtureRequest
) -> None:
    place.proxy.faults = [
        Fault("status", "PATCH", UPLOADS, status=429, headers={"Retry-After": "1"}, times=1)
    ]
    began_s = time.monotonic()
    copy(image.layout, place.store(name_of(request)), image.digest, tag="v1")
    assert time.monotonic() - began_s >= 1


def test_content_that_is_altered_on_its_way_is_refused(
    place: Place, image: Image, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = name_of(request)
    copy(image.layout, place.store(name), image.digest, tag="v1")
    for path in (BLOB, MANIFEST):
        place.proxy.faults = [Fault("altered", "GET", path)]
        with pytest.raises(RelforgeError, match="not what its digest says"):
            copy(place.store(name), LayoutStore(tmp_path / "copy"), image.digest, tag="v1")
        with pytest.raises(RelforgeError, match="not what its digest says"):
            copy(place.store(name), TarStore(tmp_path / "copy.tar"), image.digest, tag="v1")
        assert LayoutStore(tmp_path / "copy").tags() == ()
        assert not (tmp_path / "copy.tar").exists()
    place.proxy.forget()
    copy(place.store(name), LayoutStore(tmp_path / "copy"), image.digest, tag="v1")


@pytest.mark.parametrize("kind", ["truncate", "reset", "status"])
def test_a_download_goes_on_where_it_was(
    place: Place, image: Image, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    name = name_of(request)
    copy(image.layout, place.store(name), image.digest, tag="v1")
    place.proxy.forget()
    place.proxy.faults = [Fault(kind, "GET", BLOB, status=500, times=2)]  # type: ignore[arg-type]
    copy(place.store(name), LayoutStore(tmp_path / "copy"), image.digest, tag="v1")
    assert LayoutStore(tmp_path / "copy").tags()
    place.proxy.faults = [Fault("truncate", "GET", BLOB)]
    with pytest.raises(RelforgeError) as caught:
        copy(place.store(name), LayoutStore(tmp_path / "other"), image.digest, tag="v1")
    assert caught.value.code is ExitCode.PUBLISH
    assert LayoutStore(tmp_path / "other").tags() == ()


def test_a_slow_trickle_is_not_waited_for(
    place: Place,
    image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    name = name_of(request)
    copy(image.layout, place.store(name), image.digest, tag="v1")
    place.proxy.faults = [Fault("trickle", "GET", BLOB)]
    monkeypatch.setattr("relforge.oci.reading.PATIENCE_S", 0.3)
    with pytest.raises(RelforgeError) as caught:
        copy(place.store(name), LayoutStore(tmp_path / "copy"), image.digest, tag="v1")
    assert caught.value.code is ExitCode.PUBLISH
    place.proxy.faults = [Fault("trickle", "GET", MANIFEST)]
    monkeypatch.setattr("relforge.oci.transport._SMALL_S", 0.3)
    with pytest.raises(RelforgeError, match="could not be read"):
        place.store(name).manifest("v1")


def test_a_registry_that_never_answers(
    place: Place,
    image: Image,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("relforge.oci.transport.ANSWER_S", 0.3)
    place.proxy.faults = [Fault("hang", "HEAD", BLOB)]
    began_s = time.monotonic()
    with pytest.raises(RelforgeError, match="could not be asked"):
        copy(image.layout, place.store(name_of(request)), image.digest, tag="v1")
    assert time.monotonic() - began_s < 30


def test_ctrl_c_ends_a_wait_for_an_answer(
    place: Place, image: Image, request: pytest.FixtureRequest
) -> None:
    token = CancelToken()
    place.proxy.faults = [Fault("hang", "POST", UPLOADS)]
    timer = threading.Timer(0.3, token.cancel, ["Ctrl-C"])
    timer.start()
    began_s = time.monotonic()
    dst = place.store(name_of(request), cancel=token)
    with pytest.raises(Cancelled):
        copy(image.layout, dst, image.digest, tag="v1", cancel=token)
    assert time.monotonic() - began_s < 20
    timer.join()
    assert place.registry.tags(name_of(request)) == []


def test_what_a_disk_cannot_hold(
    place: Place, image: Image, small_disk: Path, request: pytest.FixtureRequest
) -> None:
    name = name_of(request)
    copy(image.layout, place.store(name), image.digest, tag="v1")
    for dst in (LayoutStore(small_disk / "copy"), TarStore(small_disk / "copy.tar")):
        with pytest.raises(RelforgeError, match="the disk is full") as caught:
            copy(place.store(name), dst, image.digest, tag="v1")
        assert caught.value.code is ExitCode.ENVIRONMENT
    assert LayoutStore(small_disk / "copy").tags() == ()
    assert not (small_disk / "copy.tar").exists()
    left = [
        path for path in small_disk.rglob("*") if path.is_file() and path.stat().st_size > 50_000
    ]
    assert left == []


def test_two_publishers_at_once(
    place: Place, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each has its own attachment of the same image; both are listed in the end."""
    name = name_of(request)
    digest = ""
    for who in ("a", "b"):
        digest, _ = signed_image(tmp_path / who, b"the same", b"big2")
        attachment(tmp_path / who, digest, f"only {who} has it".encode())
    failed: list[BaseException] = []

    def publish(who: str) -> None:
        try:
            dst = place.store(name, uploads=tmp_path / "uploads")
            copy(LayoutStore(tmp_path / who), dst, digest, tag="v1")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=publish, args=(who,)) for who in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(place.store(name).referrers(digest)) == 4
    assert list((tmp_path / "uploads").iterdir()) == []
    manifest = place.store(name).manifest("v1")
    assert manifest is not None
    assert json.loads(manifest.data)["layers"]
