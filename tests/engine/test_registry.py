"""Images of the engine in a real registry: what it builds is what it pulls, and tars load."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import BuildResult, build
from relforge.engine.cli import DockerCli
from relforge.engine.images import find_image
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.oci.tar_store import TarStore
from relforge.retrying import RetryPolicy
from tests.engine.conftest import Registry, docker, free_port
from tests.support.images import attachment

Make = Callable[..., BuildRequest]


@pytest.fixture
def built(request_for: Make) -> BuildResult:
    return build(request_for(f"FROM BASE\nRUN echo {secrets.token_hex(8)} > /word\n"))


def store(registry: Registry, name: str) -> RegistryStore:
    return RegistryStore(Repository.parse(f"{registry.host}/{name}"), site=Site())


@pytest.fixture
def pulled(cli: DockerCli) -> Iterator[list[str]]:
    """References that are removed from the engine again."""
    found: list[str] = []
    yield found
    for reference in found:
        docker(cli, "image", "rm", "--force", reference)


def test_the_engine_pulls_what_it_built(
    built: BuildResult, registry: Registry, cli: DockerCli, pulled: list[str]
) -> None:
    attachment(built.layout, built.image_digest, b'{"spdx": 1}')
    dst = store(registry, "team/model")
    docker(cli, "image", "rm", "--force", built.image_name)
    copy(LayoutStore(built.layout), dst, built.image_digest, tag="v1")
    reference = f"{dst.name}:v1"
    pulled.append(reference)
    done = docker(cli, "pull", reference)
    assert done.returncode == 0, done.stderr
    image = find_image(reference)
    assert image is not None
    assert image.id == built.image_digest
    ran = docker(cli, "run", "--rm", reference, "cat", "/word")
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.strip()) == 16


def test_a_pushed_image_is_copied_on(
    built: BuildResult, registry: Registry, cli: DockerCli, pulled: list[str], tmp_path: Path
) -> None:
    """What the engine pushed by itself is read by us with the same digest."""
    reference = f"{registry.host}/team/by-engine:v1"
    pulled.append(reference)
    docker(cli, "tag", built.image_name, reference)
    assert docker(cli, "push", reference).returncode == 0
    found = store(registry, "team/by-engine").manifest("v1")
    assert found is not None
    assert found.descriptor.digest == built.image_digest
    report = copy(
        LayoutStore(built.layout), store(registry, "team/by-engine"), built.image_digest, tag="v1"
    )
    assert report.nothing


@pytest.mark.parametrize("source", ["layout", "registry"])
def test_the_engine_loads_a_tar(
    built: BuildResult,
    registry: Registry,
    cli: DockerCli,
    pulled: list[str],
    tmp_path: Path,
    source: str,
) -> None:
    attachment(built.layout, built.image_digest, b'{"spdx": 1}')
    src: LayoutStore | RegistryStore = LayoutStore(built.layout)
    if source == "registry":
        copy(src, store(registry, "team/tar"), built.image_digest)
        src = store(registry, "team/tar")
    docker(cli, "image", "rm", "--force", built.image_name)
    name = f"relforge-test-tar:{secrets.token_hex(4)}"
    pulled.append(name)
    copy(src, TarStore(tmp_path / "image.tar"), built.image_digest, tag=name)
    loaded = docker(cli, "load", "--input", str(tmp_path / "image.tar"))
    assert loaded.returncode == 0, loaded.stderr
    assert f"Loaded image: {name}" in loaded.stdout
    image = find_image(name)
    assert image is not None
    assert image.id == built.image_digest


def test_skopeo_copies_it_into_the_engine_and_back(
    built: BuildResult, registry: Registry, tmp_path: Path
) -> None:
    """Another program's copy is the same image, whichever way it goes."""
    dst = store(registry, "team/skopeo")
    tar = tmp_path / "image.tar"
    copy(LayoutStore(built.layout), TarStore(tar), built.image_digest, tag="v1")
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
         f"oci-archive:{tar}:v1", f"docker://{dst.name}:v1"],
        check=True,
    )  # fmt: skip
    found = dst.manifest("v1")
    assert found is not None
    assert found.descriptor.digest == built.image_digest
    assert copy(TarStore(tar), dst, built.image_digest, tag="v1").nothing


def test_a_closed_port(built: BuildResult) -> None:
    repository = Repository.parse(f"127.0.0.1:{free_port()}/team/model")
    dst = RegistryStore(repository, site=Site(), policy=RetryPolicy(attempts=2, first_wait_s=0.01))
    with pytest.raises(RelforgeError) as caught:
        copy(LayoutStore(built.layout), dst, built.image_digest, tag="v1")
    assert caught.value.code is ExitCode.PUBLISH
    assert (caught.value.why or "").startswith("it cannot be reached")
