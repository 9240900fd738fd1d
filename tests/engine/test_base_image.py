"""The base image: from a registry by digest, or made here; and what is said when neither works."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from relforge.engine import base_image
from relforge.engine.base_image import LABEL_KEY, base_key, ensure_base
from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build
from relforge.engine.cli import DockerCli
from relforge.engine.images import find_image
from relforge.engine.prune import prune_source_cache
from relforge.errors import ExitCode, RelforgeError
from relforge.files import sha256_file
from relforge.frozen import canonical_json
from relforge.manifest.facts import BaseImage, BootstrapBase, RegistryBase
from relforge.manifest.site import PythonSite, Site
from tests.engine.conftest import Registry, docker, free_port
from tests.support.sources import black_hole

_STATUS = (
    "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
    "Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b7\n"
)


def test_from_a_registry_by_digest(
    rootfs: Path, registry: Registry, cli: DockerCli, tmp_path: Path
) -> None:
    """As BuildKit's own copy: steps on it stay cached when something else is pruned."""
    name = f"{registry.host}/team/base"
    archive = tmp_path / "rootfs.tar"
    (mark := rootfs.parent / "mark").write_text(secrets.token_hex(8))
    subprocess.run(
        ["tar", "-cf", archive, "-C", rootfs, ".", "-C", mark.parent, "mark"], check=True
    )
    env = 'ENV SDK_HOME="/opt/a b" SDK_NOTE="cost $5 \\"here\\""'
    docker(cli, "import", "--change", env, str(archive), f"{name}:v1")
    assert docker(cli, "push", f"{name}:v1").returncode == 0
    image = find_image(f"{name}:v1")
    assert image is not None
    docker(cli, "image", "rm", f"{name}:v1")
    wanted = BaseImage(registry=RegistryBase(reference=name, digest=image.id))
    first = ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
    assert (first.how, first.digest, first.reused) == ("registry", image.id, False)
    again = ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
    assert again.reused
    assert again.reference == first.reference
    copy = find_image(first.reference)
    assert copy is not None
    assert set(image.env) <= set(copy.env)

    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        f"FROM {first.reference}\nRUN cat /mark > /kept\n"
        "RUN --mount=type=bind,from=sealed,target=/c cat /c/f > /dev/null; touch /used\n"
    )
    sealed = tmp_path / "sealed"
    sealed.mkdir()

    def cached_steps(content: str) -> int:
        (sealed / "f").write_text(content)
        request = BuildRequest(
            dockerfile=dockerfile, context=tmp_path / "empty", contexts={"sealed": sealed},
            source_date_epoch=0, image_name="relforge-test-on-registry-base:1",
            layout=tmp_path / "image", log=tmp_path / "log" / "build.log",
        )  # fmt: skip
        return build(request).steps_cached

    cached_steps("one")
    assert prune_source_cache(["sealed"]).removed > 0
    assert cached_steps("two") >= 1, "the step before the sealed one was forgotten"
    for one in (f"{name}@{image.id}", first.reference, "relforge-test-on-registry-base:1"):
        docker(cli, "image", "rm", one)


def test_an_unreachable_registry_costs_seconds(facts: object, tmp_path: Path) -> None:
    # 192.0.2.0/24 is reserved for documentation: nothing answers, and nothing says so.
    for host in (f"127.0.0.1:{free_port()}", "192.0.2.1:443"):
        wanted = BaseImage(registry=RegistryBase(reference=f"{host}/a/b", digest=_DIGEST))
        started = time.monotonic()
        with pytest.raises(RelforgeError) as caught:
            ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
        assert time.monotonic() - started < 10
        assert caught.value.code is ExitCode.ENVIRONMENT
        assert caught.value.where == f"{host}/a/b@{_DIGEST}"
        assert caught.value.why


def test_a_kept_root_file_system_gives_the_same_image_again(
    rootfs: Path, cli: DockerCli, tmp_path: Path
) -> None:
    spec = BootstrapBase(suite="bookworm", packages=(f"x{os.getpid()}",))
    key = _keep(spec, rootfs, tmp_path)
    wanted = BaseImage(bootstrap=spec)
    first = ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
    try:
        assert first.how == "bootstrap"
        assert first.reference == f"relforge-base:{key[:12]}"
        assert first.packages == (("bash", "5.2.15-2+b7"), ("libc6", "2.36-9"))
        image = find_image(first.reference)
        assert image is not None
        assert image.id == first.digest
        assert image.labels[LABEL_KEY] == key

        started = time.monotonic()
        again = ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
        assert time.monotonic() - started < 1.5
        assert again == first.model_copy(update={"reused": True})

        # Notes lost: the image itself is asked. Image lost: built again, the same digest.
        (tmp_path / "base" / key / "base.json").rename(tmp_path / "notes")
        asked = ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
        assert asked.packages == first.packages
        (tmp_path / "notes").rename(tmp_path / "base" / key / "base.json")
        docker(cli, "image", "rm", "--force", first.reference)
        remade = ensure_base(wanted, architecture="amd64", site=Site(), home=tmp_path)
        assert remade.digest == first.digest
        assert not remade.reused
    finally:
        docker(cli, "image", "rm", "--force", first.reference)


def test_a_bootstrap_that_fails_leaves_no_work_folder(facts: object, tmp_path: Path) -> None:
    wanted = BaseImage(bootstrap=BootstrapBase(suite="bookworm"))
    closed = Site(apt_mirror=f"http://127.0.0.1:{free_port()}/debian")
    spec = BootstrapBase(suite="bookworm", packages=(f"y{os.getpid()}",))
    with pytest.raises(RelforgeError) as caught:
        ensure_base(
            wanted.model_copy(update={"bootstrap": spec}),
            architecture="amd64",
            site=closed,
            home=tmp_path,
        )
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "debootstrap" in (caught.value.where or "")
    assert "apt_mirror" in (caught.value.hint or "")
    assert [p.name for p in (tmp_path / "work").iterdir() if p.is_dir()] == []


def test_a_silent_mirror_costs_seconds(facts: object, tmp_path: Path) -> None:
    spec = BootstrapBase(suite="bookworm", packages=(f"z{os.getpid()}",))
    fast = PythonSite(index_timeout_s=1.0)
    with black_hole() as hole:
        mirror = f"http://127.0.0.1:{hole}/debian"
        started = time.monotonic()
        with pytest.raises(RelforgeError, match="the Debian mirror cannot be reached") as caught:
            ensure_base(
                BaseImage(bootstrap=spec),
                architecture="amd64",
                site=Site(apt_mirror=mirror, python=fast),
                home=tmp_path,
            )
    assert time.monotonic() - started < 8
    assert (caught.value.where or "").startswith(mirror)
    assert caught.value.why in ("no answer within 1 s", "timed out")


@pytest.mark.skipif("RELFORGE_LONG" not in os.environ, reason="minutes: set RELFORGE_LONG=1")
@pytest.mark.timeout(1200)
def test_two_bootstraps_of_the_same_packages_are_the_same_bytes(
    cli: DockerCli, tmp_path: Path
) -> None:
    spec = BootstrapBase(suite="bookworm", packages=("ca-certificates",))
    wanted = BaseImage(bootstrap=spec)
    hashes = set()
    for home in (tmp_path / "one", tmp_path / "two"):
        name = f"relforge-base:{base_key(spec, 'amd64')[:12]}"
        docker(cli, "image", "rm", "--force", name)
        result = ensure_base(wanted, architecture="amd64", site=Site(), home=home)
        archive = next(home.glob("base/*/context/rootfs.tar"))
        hashes.add((result.digest, sha256_file(archive)))
        docker(cli, "image", "rm", "--force", name)
    assert len(hashes) == 1


_DIGEST = "sha256:" + "ab" * 32


def _keep(spec: BootstrapBase, rootfs: Path, home: Path) -> str:
    """Lays out what an earlier bootstrap has kept, with a tiny root file system."""
    from relforge.engine import rootfs as tools

    key = base_key(spec, "amd64")
    kept = home / "base" / key
    (kept / "context").mkdir(parents=True)
    (rootfs / "var/lib/dpkg/status").write_text(_STATUS)
    tools.pack(rootfs, kept / "context" / "rootfs.tar", None)
    made = base_image._Made(
        key=key,
        rootfs_sha256=sha256_file(kept / "context" / "rootfs.tar"),
        packages=tools.packages(_STATUS),
    )
    (kept / "base.json").write_bytes(canonical_json(made))
    assert json.loads((kept / "base.json").read_text())["key"] == key
    return key
