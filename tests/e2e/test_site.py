"""What a site says of its network and its host, in a whole release: used, and seen nowhere."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from relforge.engine.apt import host_sources
from tests.e2e.conftest import Hello
from tests.e2e.test_hello import ran_steps
from tests.fakes.proxy import FakeProxy
from tests.support.sources import Answer, Server
from tests.support.tls import self_signed

pytestmark = pytest.mark.timeout(900)
PASSWORD = "of-the-proxy-9"


def docker(*words: str) -> str:
    return subprocess.run(
        ["docker", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def change(hello: Hello, **build: Any) -> None:
    """Changes ``build`` of the hello release, and locks it."""
    path = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    release = yaml.safe_load(path.read_text())
    release["build"] |= build
    path.write_text(yaml.safe_dump(release))
    locked = hello.run("lock")
    assert locked.code == 0, locked.stderr


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """This host's Debian mirror, over TLS and with a certificate of the test's own."""
    upstream = host_sources().get("bookworm")
    if upstream is None:
        pytest.fail("this host has no Debian mirror of bookworm")
    certificate, context = self_signed(tmp_path, "mirror.invalid")

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        got = requests.get(upstream.removesuffix("/debian") + request.path, timeout=60)
        return got.status_code, "application/octet-stream", got.content

    with Server(answer, tls=context) as server:
        yield server, certificate


def test_apt_goes_through_the_sites_proxy_to_its_mirror_and_the_image_tells_nothing(
    hello: Hello, mirror: tuple[Server, Path], tmp_path: Path
) -> None:
    server, certificate = mirror
    mark = secrets.token_hex(8)
    installing = '{{ apt(device.apt_runtime + ("hello",)) }}'
    # A file, not an empty step: steps after equal content are taken from BuildKit's cache.
    base = f"FROM ${{BASE_IMAGE}} AS system\nRUN echo {mark} > /mark\n{installing}\n"
    change(hello, blocks={"base": base})
    (tmp_path / "password").write_text(PASSWORD)
    gateway = json.loads(docker("network", "inspect", "bridge", "-f", "{{json .IPAM.Config}}"))
    with FakeProxy(
        {"mirror.invalid:443": server.port},
        login=f"me:{PASSWORD}",
        address=gateway[0]["Gateway"],
        elsewhere=True,  # the wheels' index, where they are not in the store yet
    ) as proxy:
        proxy.secrets = (PASSWORD,)
        settings = {"https": proxy.url, "user": "me", "password_file": str(tmp_path / "password")}
        site = hello.other_site(
            tmp_path / "there.yaml",
            apt_mirror="https://mirror.invalid/debian",
            extra_ca=str(certificate),
            proxy=settings,
        )
        done = hello.run("build", "--json", site=site)
        assert done.code == 0, done.stderr
    assert "CONNECT mirror.invalid:443" in proxy.asked
    assert not [asked for asked in proxy.asked if "debian" in asked]
    assert any("/pool/main/h/hello/" in path for path in server.asked)
    assert proxy.seen_in_argv == set()

    image = latest_image(hello)
    assert docker("run", "--rm", "--entrypoint", "hello", image) == "Hello, world!"
    look = "cat /etc/apt/sources.list; ls /etc/apt/apt.conf.d /etc/apt/sources.list.d /run"
    shown = docker("run", "--rm", "--entrypoint", "sh", image, "-c", look)
    shown += docker("image", "inspect", image) + docker("history", "--no-trunc", image)
    for trace in ("mirror.invalid", "relforge-site", "debian.sources", "secrets", "_proxy"):
        assert trace not in shown.lower()
    for path in (*hello.home.rglob("*"), *tmp_path.rglob("*")):
        if path.is_file() and path != tmp_path / "password" and path.stat().st_size < 1 << 20:
            assert PASSWORD.encode() not in path.read_bytes(), path

    # At home, where none of that is there, it is the same image.
    there = done.json["image_digest"]
    again = hello.run("build", "--json")
    assert again.json["image_digest"] == there
    assert {s["name"]: s["status"] for s in again.json["stages"]}["build"] == "reused"


def test_hosts_with_room_for_other_numbers_of_jobs_share_key_and_cache(
    hello: Hello, tmp_path: Path
) -> None:
    mark = secrets.token_hex(8)
    path = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    (package,) = yaml.safe_load(path.read_text())["build"]["packages"]
    said = f'echo "{mark}: $MAX_JOBS $CMAKE_BUILD_PARALLEL_LEVEL"'
    package["native"]["commands"].insert(0, ["sh", "-c", said])
    change(hello, packages=[package])

    keys, digests, logs = [], [], []
    for number in (5, 3):
        home = tmp_path / f"home-{number}"
        home.mkdir()
        (home / "base").symlink_to((hello.home / "base").resolve())
        site = hello.other_site(
            tmp_path / f"{number}.yaml", home=str(home), build={"max_jobs": number}
        )
        done = hello.run("build", "--json", site=site)
        assert done.code == 0, done.stderr
        digests.append(done.json["image_digest"])
        keys += [path.name for path in (home / "store" / "results" / "build").iterdir()]
        (run,) = (home / "runs").iterdir()
        logs.append((run / "hello-cpu_x86" / "logs" / "buildkit-report.log").read_text())
    assert f"{mark}: 5 5" in logs[0]
    assert "[native-hello" not in ran_steps(logs[1])
    assert keys[0] == keys[1]
    assert digests[0] == digests[1]


def latest_image(hello: Hello) -> str:
    """The engine's name of the image of the newest build."""
    results = sorted((hello.home / "store" / "results" / "build").glob("*.json"),
                     key=lambda path: path.stat().st_mtime)  # fmt: skip
    return str(json.loads(results[-1].read_text())["result"]["image_name"])
