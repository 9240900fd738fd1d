"""A site's proxy, certificates and number of jobs: there in the build's step, and nowhere else."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from relforge.engine.apt import System
from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import BuildResult, build
from relforge.engine.cli import DockerCli, EngineFacts, engine_facts
from relforge.engine.contents import contents
from relforge.engine.jobs import max_jobs
from relforge.engine.site_secrets import site_secrets
from relforge.manifest.site import BuildSite, ProxySite, Site
from relforge.network import Proxy
from tests.engine.conftest import docker
from tests.fakes.proxy import FakeProxy
from tests.support.sources import Server
from tests.support.tls import self_signed

Make = Callable[..., BuildRequest]
GB = 10**9
BOOKWORM = System(distribution="debian", suite="bookworm")


@pytest.fixture(scope="session")
def bridge(cli: DockerCli) -> str:
    """This host's address as build containers see it."""
    shown = docker(cli, "network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")
    return str(json.loads(shown.stdout)[0]["Gateway"])


def everything(result: BuildResult, cli: DockerCli) -> bytes:
    """All that a build leaves: config, layers, history, log and script."""
    archive = subprocess.run(
        cli.argv("save", result.image_name),
        env={**os.environ, **cli.environment},
        capture_output=True,
        check=True,
    ).stdout
    unpacked = []
    for layer in result.image.layers:
        with (result.layout / "blobs" / layer.digest.replace(":", "/")).open("rb") as blob:
            unpacked.append(zstandard.ZstdDecompressor().stream_reader(blob).read())
    history = docker(cli, "history", "--no-trunc", result.image_name).stdout
    files = [result.log, result.log.parent / "rebuild.sh", result.layout / "index.json"]
    return b"\n".join([archive, *unpacked, history.encode(), *(f.read_bytes() for f in files)])


def proxy_of(url: str, **login: object) -> Proxy:
    made = Proxy.of(Site(proxy=ProxySite.model_validate({"http": url, "https": url, **login})))
    assert made is not None
    return made


def test_a_step_reaches_others_through_the_proxy_and_nothing_tells_of_it(
    request_for: Make, bridge: str, cli: DockerCli, tmp_path: Path
) -> None:
    password = f"pw{secrets.token_hex(8)}"
    (tmp_path / "password").write_text(password)
    login = {"user": "builder", "password_file": tmp_path / "password"}
    word = secrets.token_hex(8)
    request = request_for(
        f"FROM BASE\nRUN busybox wget -q -O /{word} http://files.invalid/{word}; env >&2\n"
    )
    with (
        Server(lambda _: (200, "text/plain", b"fetched\n")) as files,
        FakeProxy({"files.invalid": files.port}, address=bridge) as proxy,
    ):
        proxy.login, proxy.secrets = f"builder:{password}", (password,)
        first = build(request, proxy=proxy_of(proxy.url, **login))
    assert proxy.asked == [f"GET http://files.invalid/{word}"]
    assert proxy.seen_in_argv == set()
    assert docker(cli, "run", "--rm", first.image_name, "cat", f"/{word}").stdout == "fetched\n"
    # The step printed its whole environment, which is redacted.
    assert "http_proxy=http://[redacted]@" in first.log.read_text()
    left = everything(first, cli)
    assert b"fetched\n" in left
    assert password.encode() not in left

    for other in (None, proxy_of("http://other.invalid:3128")):
        again = build(request, proxy=other)
        assert (again.steps_run, again.image_digest) == (0, first.image_digest)
    traces = everything(build(request, proxy=proxy_of("http://other.invalid:3128")), cli)
    assert b"other.invalid" not in traces
    assert b"_proxy=" not in traces.lower()


def test_the_script_that_repeats_a_build_takes_the_proxy_from_the_environment(
    request_for: Make, tmp_path: Path
) -> None:
    word = secrets.token_hex(8)
    request = request_for(f"FROM BASE\nRUN echo {word}; echo through $https_proxy.\n")
    build(request, proxy=proxy_of("http://proxy.invalid:1"))
    script = request.log.parent / "rebuild.sh"
    assert "--build-arg HTTPS_PROXY" in script.read_text()
    assert "proxy.invalid" not in script.read_text()
    script.write_text(script.read_text().replace("buildx build", "buildx build --no-cache"))
    env = {**os.environ, "https_proxy": "http://mine.invalid:2"}
    done = subprocess.run(["sh", script], env=env, capture_output=True, text=True)
    assert "through http://mine.invalid:2." in done.stderr


def test_secrets_of_the_site_are_in_the_step_and_in_no_key(
    request_for: Make, cli: DockerCli, tmp_path: Path
) -> None:
    """Other jobs, other certificates, another mirror, or none: the same cache, the same image."""
    certificate, _ = self_signed(tmp_path)
    mark = secrets.token_hex(8)
    mounts = " ".join(
        f"--mount=type=secret,id={name},required=false"
        for name in ("max_jobs", "apt_sources", "apt_conf", "extra_ca,mode=0444")
    )
    request = request_for(
        f"FROM BASE\nRUN {mounts} echo {mark}; cd /run/secrets"
        " && cat max_jobs apt_sources apt_conf && head -n 1 extra_ca && ls -l extra_ca\n"
    )
    mirror = f"http://{mark}.mirror.invalid/debian"
    full = Site(apt_mirror=mirror, extra_ca=certificate, build=BuildSite(max_jobs=7))

    def built(site: Site) -> BuildResult:
        home = tmp_path / "home"
        with site_secrets(site, home, system=BOOKWORM) as files:
            result = build(request.model_copy(update={"secrets": files}))
        assert list((home / "work").iterdir()) == []
        return result

    first = built(full)
    said = first.log.read_text().splitlines()
    for line in (
        "7",
        f"deb {mirror} bookworm main",
        f"deb {mirror}-security bookworm-security main",
        'Acquire::https::CAInfo "/run/secrets/extra_ca";',
        "-----BEGIN CERTIFICATE-----",
    ):
        assert line in said
    assert any(line.startswith("-r--r--r--") and "extra_ca" in line for line in said)
    first.log.write_text("")  # it tells what the step printed; the image must not
    assert b"mirror.invalid" not in everything(first, cli)
    # The script of the build works without them, after they are gone.
    script = first.log.parent / "rebuild.sh"
    assert "--secret" in script.read_text()
    done = subprocess.run(["sh", script], capture_output=True, text=True)
    assert first.image_digest in done.stderr + done.stdout
    fewer = full.model_copy(update={"build": BuildSite(max_jobs=3)})
    for site in (fewer, Site(apt_mirror="http://else.invalid/d")):
        again = built(site)
        assert (again.steps_run, again.image_digest) == (0, first.image_digest)


def test_one_job_for_each_core_and_each_two_gigabytes(facts: EngineFacts) -> None:
    def on(cpus: int, gb: float, jobs: int | None = None) -> int:
        site = Site(build=BuildSite(max_jobs=jobs))
        host = facts.model_copy(update={"cpus": cpus, "memory_bytes": int(gb * GB)})
        return max_jobs(host, site)

    assert on(64, 512) == 64
    assert on(64, 32) == 16
    assert on(2, 24) == 2
    assert on(8, 1) == 1
    assert on(8, 1, 5) == 5
    assert 1 <= max_jobs(engine_facts(), Site()) <= (os.cpu_count() or 1)


def test_an_image_tells_its_distribution(request_for: Make, cli: DockerCli) -> None:
    """By a link, as most have it; without one nobody guesses a mirror."""
    built = build(
        request_for(
            "FROM BASE\n"
            "RUN mkdir -p /usr/lib; busybox ln -s ../usr/lib/os-release /etc/os-release; "
            "(echo NAME=Any; echo 'ID=\"ubuntu\"'; echo VERSION_CODENAME=noble)"
            " > /usr/lib/os-release\n"
        )
    )
    found = contents(built.image_name, cli)
    assert found.system == System(distribution="ubuntu", suite="noble")
    bare = build(request_for(f"FROM BASE\nRUN echo {secrets.token_hex(4)} > /x\n"))
    assert contents(bare.image_name, cli).system is None
