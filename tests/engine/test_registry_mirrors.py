"""Images from a mirror of a registry: the real registry, the same image, and what is told."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relforge.engine.base_image import BaseResult, ensure_base
from relforge.engine.cli import DockerCli
from relforge.engine.given_image import digest_of, take
from relforge.engine.images import find_image
from relforge.engine.pulling import mirrored
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.facts import BaseImage, RegistryBase
from relforge.manifest.site import RegistryMirror, Site
from tests.engine.conftest import Registry, docker, free_port

Push = Callable[[str], RegistryBase]


def mirrors(*pairs: tuple[str, str]) -> Site:
    return Site(registry_mirrors=tuple(RegistryMirror(prefix=p, to=to) for p, to in pairs))


def base_of(spec: RegistryBase, site: Site, home: Path) -> BaseResult:
    return ensure_base(BaseImage(registry=spec), architecture="amd64", site=site, home=home)


@pytest.fixture
def push(rootfs: Path, registry: Registry, cli: DockerCli, tmp_path: Path) -> Iterator[Push]:
    """Puts an image of new content into the registry, and takes it out of the engine again."""
    made: list[str] = []

    def push(name: str) -> RegistryBase:
        (tmp_path / "mark").write_text(secrets.token_hex(8))
        archive = tmp_path / "rootfs.tar"
        tar = ["tar", "--sort=name", "-cf", str(archive), "-C", str(rootfs), "."]
        subprocess.run([*tar, "-C", str(tmp_path), "mark"], check=True)
        reference = f"{registry.host}/{name}"
        docker(cli, "import", str(archive), reference)
        assert docker(cli, "push", reference).returncode == 0
        image = find_image(reference)
        assert image is not None
        assert docker(cli, "image", "rm", "--force", reference).returncode == 0
        made.append(f"{reference.rpartition(':')[0]}@{image.id}")
        return RegistryBase(reference=reference, digest=image.id)

    yield push
    for reference in made:
        docker(cli, "image", "rm", "--force", reference)


def forget(cli: DockerCli, *references: str) -> None:
    for reference in references:
        assert docker(cli, "image", "rm", "--force", reference).returncode == 0, reference


def test_the_mirrors_image_is_the_registrys(
    push: Push, registry: Registry, cli: DockerCli, tmp_path: Path
) -> None:
    """Key, name, labels and content are the same whichever place it came from."""
    there = push("hub/team/base:v1")
    named = RegistryBase(reference="docker.io/team/base:v1", digest=there.digest)
    site = mirrors(("docker.io/", f"{registry.host}/hub/"))
    place = f"{registry.host}/hub/team/base:v1@{there.digest}"

    first = base_of(named, site, tmp_path / "home")
    assert (first.how, first.digest, first.place) == ("registry", there.digest, place)
    copy = find_image(first.reference)
    assert copy is not None
    history = docker(cli, "history", "--no-trunc", first.reference).stdout
    assert registry.host not in str(copy) + history

    # Later runs know it still, also those that do not name the mirror any more.
    again = base_of(named, Site(), tmp_path / "home")
    assert again == first.model_copy(update={"reused": True})

    # Had under another rule, it is the same image. What comes from elsewhere is told as such.
    forget(cli, first.reference, place)
    longer = mirrors(
        ("docker.io/", f"127.0.0.1:{free_port()}/none/"),
        ("docker.io/team/", f"{registry.host}/hub/team/"),
    )
    other = base_of(named, longer, tmp_path / "other")
    assert (other.key, other.reference, other.place) == (first.key, first.reference, place)
    remade = find_image(other.reference)
    assert remade is not None
    assert (remade.id, remade.labels, remade.env) == (copy.id, copy.labels, copy.env)
    forget(cli, first.reference)


def test_what_the_engine_has_is_not_asked_for(push: Push, cli: DockerCli, tmp_path: Path) -> None:
    """Pulled before by its own name: the digest is right, and nobody need answer."""
    named = push("team/known:v1")
    direct = f"{named.reference}@{named.digest}"
    assert docker(cli, "pull", direct).returncode == 0
    host = named.reference.partition("/")[0]
    site = mirrors((f"{host}/", f"127.0.0.1:{free_port()}/mirror/"))
    found = base_of(named, site, tmp_path)
    assert found.place == direct
    forget(cli, found.reference)


def test_a_mirror_with_another_image_is_no_mirror(
    push: Push, registry: Registry, tmp_path: Path
) -> None:
    """It has that name and tag, and other content: digests are what counts."""
    push("altered/team/base:v1")
    named = RegistryBase(reference="docker.io/team/base:v1", digest="sha256:" + "ab" * 32)
    site = mirrors(("docker.io/", f"{registry.host}/altered/"))
    with pytest.raises(RelforgeError, match="no base image can be had") as caught:
        base_of(named, site, tmp_path)
    assert "manifest unknown" in (caught.value.why or "") or "not found" in (caught.value.why or "")


def test_a_mirror_that_does_not_answer_is_named_with_the_rule(
    facts: object, tmp_path: Path
) -> None:
    named = RegistryBase(reference="docker.io/team/base:v1", digest="sha256:" + "cd" * 32)
    host = f"127.0.0.1:{free_port()}"
    site = mirrors(("docker.io/", f"{host}/hub/")).read_from(tmp_path / "site.yaml")
    with pytest.raises(RelforgeError, match="no base image can be had") as caught:
        base_of(named, site, tmp_path)
    error = caught.value
    assert error.code is ExitCode.ENVIRONMENT
    asked = f"{host}/hub/team/base:v1@{named.digest}"
    assert error.where == f"{asked} (mirror of docker.io/team/base:v1@{named.digest})"
    assert "connection refused" in (error.why or "")
    assert "docker://" not in (error.why or "")
    assert f"registry_mirrors in {tmp_path / 'site.yaml'}" in (error.hint or "")


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("docker.io/library/debian:bookworm", "m.example/hub/library/debian:bookworm"),
        ("debian:bookworm", "m.example/hub/library/debian:bookworm"),
        ("nvidia/cuda:12", "m.example/hub/nvidia/cuda:12"),
        ("index.docker.io/nvidia/cuda:12", "m.example/hub/nvidia/cuda:12"),
        ("nvcr.io/nvidia/cuda:12", "m.example/ngc/cuda:12"),
        ("nvcr.io/other/x", "nvcr.io/other/x"),
        ("localhost/x", "localhost/x"),
        ("host:5000/x", "m.example/five/x"),
    ],
)  # fmt: skip
def test_references_are_completed_before_they_are_compared(reference: str, place: str) -> None:
    site = mirrors(
        ("docker.io/", "m.example/hub/"),
        ("nvcr.io/nvidia/", "m.example/ngc/"),
        ("host:5000/", "m.example/five/"),
    )
    assert mirrored(reference, site) == place


def test_an_image_that_is_taken_as_it_is_comes_from_the_mirror_too(
    push: Push, registry: Registry, cli: DockerCli, tmp_path: Path
) -> None:
    there = push("given/team/whole:v1")
    wanted = RegistryBase(reference="vendor.invalid/team/whole:v1", digest=there.digest)
    site = mirrors(("vendor.invalid/", f"{registry.host}/given/"))
    assert digest_of(wanted, "amd64", site) == there.digest
    name = f"relforge-test-given:{secrets.token_hex(6)}"
    taken = take(
        wanted, architecture="amd64", image_name=name, layout=tmp_path / "layout", site=site
    )
    assert taken.place == f"{registry.host}/given/team/whole@{there.digest}"
    assert (taken.how, taken.image.digest) == ("registry", there.digest)
    forget(cli, name)
