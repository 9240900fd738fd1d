"""A marked secret in every address, word and token file that relforge takes: none comes out.

Each command is a process of its own, as what one registers for redaction must not help another.
Searched are what it prints, its home, the project and the published folder.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.manifest.project import builtin_root
from tests.e2e.conftest import CHECKOUT
from tests.fakes.github import REPOSITORY, FakeGithub
from tests.fakes.github import Fault as GithubFault
from tests.fakes.hub_server import Fault, HubServer
from tests.fakes.huggingface_writing import WritableHub
from tests.fakes.modelscope_writing import WritableModelScope
from tests.support.git_http import GitHttp, bare_repository
from tests.support.plaintext import files_holding
from tests.support.sources import Answer, Index, closed_port, wheel
from tests.support.verified import Releaser
from tests.unit.test_addresses import MARK as WRITTEN
from tests.unit.test_addresses import PLACES, URLS

pytestmark = pytest.mark.timeout(600)


@dataclass
class Place:
    """A project, and a person with nothing but marked secrets."""

    root: Path
    mark: str = field(default_factory=lambda: f"Q7{secrets.token_hex(5)}Zx")
    said: list[str] = field(default_factory=list)

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def home(self) -> Path:
        return self.root / "home"

    def site(self, name: str, settings: dict[str, Any]) -> Path:
        path = self.root / f"{name}.yaml"
        path.write_text(json.dumps({"kind": "site", "home": str(self.home), **settings}))
        return path

    def token(self, name: str, text: str) -> str:
        path = self.root / "person" / name
        path.write_text(f"{text}\n")
        path.chmod(0o600)
        return str(path)

    def run(self, *words: str | Path, **environment: str) -> tuple[int, str]:
        """The exit code, and all that was printed."""
        plain = {name: text for name, text in os.environ.items()
                 if not name.startswith(("PIP_", "RELFORGE_SITE", "RELFORGE_HOME"))}  # fmt: skip
        own = {
            "HOME": str(self.root / "person"), "PIP_CONFIG_FILE": os.devnull,
            "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(self.root / "tmp"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", "from relforge.cli import main; main()", *words],
            cwd=self.project, env={**plain, **own, **environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        self.said.append(done.stdout + done.stderr)
        return done.returncode, self.said[-1]

    def assert_nothing_came_out(self, *more: Path) -> None:
        login = base64.b64encode(f"me:{self.mark}".encode()).decode()
        for text in (self.mark, login):
            assert [said for said in self.said if text in said] == []
            folders = (self.home, self.project, self.root / "tmp", *more)
            assert files_holding(text.encode(), *folders) == []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    shutil.copytree(builtin_root() / "examples" / "hello", made.project)
    for name in ("person", "home", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "git").mkdir()
    make: list[str | Path] = [sys.executable, made.project / "make_repo.py"]
    subprocess.run([*make, tmp_path / "git" / "hello.git"], check=True, capture_output=True)
    yield made
    # The search finds what is there.
    (tmp_path / "tmp" / "found").write_text(made.mark)
    with pytest.raises(AssertionError):
        made.assert_nothing_came_out()


def merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: merged(one.get(key), value) for key, value in other.items()}}
    return other


@pytest.mark.parametrize("number", [0, 2, 3])  # a login, an odd one, a token in a query
def test_a_site_with_a_secret_in_every_address(place: Place, number: int) -> None:
    url = URLS[number].replace(WRITTEN, place.mark)
    settings: Any = {}
    for name, one in PLACES.items():
        # Each of the targets under a name of its own.
        found = one(url)
        if targets := found.get("publish", {}).get("targets"):
            targets[name.partition(".")[0].replace(" ", "-")] = targets.pop("x")
        settings = merged(settings, found)
    site = place.site("refused", settings)
    at = ("--release", "hello-cpu_x86", "--site", site)
    keys = (
        "apt_mirror", "ubuntu_mirror", "torch_cpu_index", "find_links", "endpoint", "git_mirrors",
        "index_mirrors", "registry_mirrors", "git-target.url", "github.github.api",
    )  # fmt: skip
    for words in (("plan",), ("lock",), ("publish", "--target", "all")):
        code, said = place.run(*words, *at, "--json")
        assert code == 2, said
        assert [key for key in keys if key not in said] == []
    assert place.run("doctor", "--json", "--site", site)[0] != 0
    path = place.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    manifest = yaml.safe_load(path.read_text())
    (source,) = manifest["sources"].values()
    source["url"] = url
    copy = place.root / "refused-project"
    shutil.copytree(place.project, copy)
    (copy / path.relative_to(place.project)).write_text(yaml.safe_dump(manifest))
    release = ("--release", "hello-cpu_x86", "--json")
    for verb in (("check",), ("plan", *release), ("lock", *release)):
        code, said = place.run(*verb, "--project", copy)
        assert code == 2, said
        assert "sources.hello" in said
    place.assert_nothing_came_out()


def test_logins_in_words(place: Place, tmp_path: Path) -> None:
    site = place.site("plain", {"python": {"index_timeout_s": 1.0}})
    host = f"127.0.0.1:{closed_port()}"
    folder = Releaser.at(tmp_path / "maker").release(tmp_path / "dist")
    logins = (
        f"me:{place.mark}@{host}/t/x", f"https://me:{place.mark}@{host}/t/x",
        f"https://{place.mark}@{host}/t/x", f"https://{host}/x?token={place.mark}",
    )  # fmt: skip
    for login in logins:
        commands: tuple[tuple[str | Path, ...], ...] = (
            ("mirror", f"{login}:1", "x.tar"),
            ("mirror", folder, login),
            ("verify", f"{login}:1"),
            ("publish", "--folder", folder, "--registry", login),
            ("promote", "--folder", folder, "--registry", login),
            ("publish", "--folder", folder, f"--registry={login}", "--dry-run"),
            ("smoke", "--url", login, "--device", "cpu_x86"),
        )
        for words in commands:
            code, said = place.run(*words, "--site", site, "--json")
            assert code not in (0, 1), (words, said)
    place.assert_nothing_came_out(folder)


def test_tokens_of_targets_that_refuse_and_repeat_them(place: Place, tmp_path: Path) -> None:
    folder = Releaser.at(tmp_path / "maker").release(tmp_path / "dist")
    (tmp_path / "served").mkdir()
    bare_repository(tmp_path / "served" / "pages.git")
    (tmp_path / "person" / ".netrc").write_text(
        f"machine 127.0.0.1 login me password {place.mark}\n"
    )
    (tmp_path / "person" / ".netrc").chmod(0o600)
    tokens = {name: f"{name}_{place.mark}" for name in ("hf", "ms", "ghp")}
    hubs: tuple[HubServer, HubServer] = (WritableHub({}), WritableModelScope({}))
    for hub, token in zip(hubs, ("hf", "ms"), strict=True):
        body = json.dumps({"error": f"{tokens[token]} is nobody's", "Message": tokens[token]})
        hub.faults.append(Fault(".", status=401, body=body.encode(), times=1000))
    with (
        hubs[0], hubs[1], FakeGithub() as github,
        GitHttp(tmp_path / "served", login=("me", "another")) as pages,
    ):  # fmt: skip
        github.faults.append(
            GithubFault("GET", ".", status=401, message=f"no {tokens['ghp']}", times=1000)
        )
        api = {"repository": REPOSITORY, "token_file": place.token("gh", tokens["ghp"]),
               "api": github.url}  # fmt: skip

        def hub_site(number: int, name: str) -> dict[str, str]:
            return {
                "endpoint": hubs[number].url, "token_file": place.token(name, tokens[name])
            }  # fmt: skip

        bare = f"file://{tmp_path / 'served' / 'pages.git'}"
        site = place.site("sending", {
            "hubs": {
                "huggingface": hub_site(0, "hf"),
                "modelscope": hub_site(1, "ms"),
            },
            "publish": {"signing": {"key": str(tmp_path / "maker" / "maker.pem")}, "targets": {
                "hf": {"kind": "huggingface", "repository": "team/x"},
                "ms": {"kind": "modelscope", "repository": "team/x"},
                "github": {"kind": "git", "url": bare, "github": api},
                "git": {"kind": "git", "url": pages.url("pages.git")},
            }},
        })  # fmt: skip
        for target in ("hf", "ms", "github", "git"):
            words = ("publish", "--folder", folder, "--target", target, "--site", site)
            for more in ((), ("--json",)):
                code, said = place.run(*words, *more)
                assert code == 7, said
        assert github.asked
        assert all(hub.asked for hub in hubs)
        assert pages.asked
    assert list((place.home / "publications").glob("*.json"))
    place.assert_nothing_came_out(folder)


def test_logins_in_the_environment_of_a_lock(place: Place) -> None:
    """pip's index, one that answers and one that does not; and a proxy."""
    login = base64.b64encode(f"me:{place.mark}".encode()).decode()

    class Closed(Index):
        def _answer(self, request: BaseHTTPRequestHandler) -> Answer:
            if request.headers.get("Authorization") != f"Basic {login}":
                return 401, "text/plain", b"who are you"
            return super()._answer(request)

    index = Closed()
    index.add("setuptools", "setuptools-80.0-py3-none-any.whl", wheel("setuptools", "80.0"))
    index.add("uv", "uv-0.9-py3-none-any.whl", wheel("uv", "0.9"))
    index.add("wheel", "wheel-0.45-py3-none-any.whl", wheel("wheel", "0.45"))
    mirror = {"prefix": "https://git.example/", "to": f"file://{place.root / 'git'}/"}
    site = place.site("lock", {"git_mirrors": [mirror], "python": {"index_timeout_s": 2.0}})
    words = ("lock", "--release", "hello-cpu_x86", "--site", site)
    dead = f"http://me:{place.mark}@127.0.0.1:{closed_port()}/simple?sig={place.mark}"
    (place.project / "manifests" / "releases" / "hello-cpu_x86.lock.yaml").unlink()
    with index.server:
        there = index.url.replace("//", f"//me:{place.mark}@")
        code, said = place.run(*words, PIP_INDEX_URL=dead)
        assert code == 4, said
        assert "127.0.0.1" in said
        wrong = there.replace("me:", "you:")
        code, said = place.run(*words, PIP_INDEX_URL=wrong, PIP_EXTRA_INDEX_URL=f"{dead} {wrong}")
        assert code == 4, said
        code, said = place.run(*words, "--json", PIP_INDEX_URL=there, PIP_EXTRA_INDEX_URL=dead)
        assert code == 0, said
        code, said = place.run(*words, PIP_INDEX_URL=there, http_proxy=dead.partition("?")[0])
        assert code in (0, 4), said
    place.assert_nothing_came_out()
