"""Marked secrets in every place a user could put one: none of them comes out anywhere.

``Marks`` lists the places. The release is real: a sealed patch set is opened, the proxy is asked
for, the release is signed, published, and sent to a target; then runs that fail follow.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from tests.e2e.conftest import CHECKOUT, Hello, Result, command, relforge
from tests.fakes.proxy import FakeProxy
from tests.support.patching import rsa_private_pem
from tests.support.plaintext import files_holding
from tests.support.scanned import random_text

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Marks:
    """The secrets. All but the keys hold ``common``, so that one search finds any of them."""

    common: str

    def _of(self, place: str) -> str:
        return f"{place}{self.common}{secrets.token_hex(3)}"

    @classmethod
    def new(cls) -> Marks:
        return cls(f"Q7{secrets.token_hex(5)}Zx")

    @property
    def gitlab(self) -> str:
        """A token in the form of one, for a build argument in a manifest."""
        return "glpat-" + self.common + random_text(20 - len(self.common))


@dataclass(frozen=True)
class Marked:
    """A project, a site and a person whose every secret is marked."""

    hello: Hello
    project: Path
    site: Path
    home: Path
    dist: Path
    target: Path
    person: Path
    tmp: Path
    since: Path
    marks: Marks
    settings: dict[str, Any]
    environment: dict[str, str]
    keys: tuple[str, ...]
    """Lines of private keys, and logins in base64."""
    said: list[str]
    """What every command printed."""

    def run(self, verb: str, *words: str | Path, site: Path | None = None) -> Result:
        at: list[str | Path] = [
            "--project",
            self.project,
            "--release",
            "hello-cpu_x86",
            "--site",
            site or self.site,
        ]
        return self.noted(relforge(verb, *at, *words, env=self.environment))

    def noted(self, done: Result) -> Result:
        self.said.append(done.stdout + done.stderr)
        return done

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.marks.common, *self.keys)

    def assert_nothing_came_out(self) -> None:
        for text in self.texts:
            assert not [said for said in self.said if text in said], "a command printed it"
            since = self.since.stat().st_ctime
            folders = (self.home, self.dist, self.target, self.tmp)
            assert files_holding(text.encode(), *folders, changed_after=since) == []


@pytest.fixture
def marked(hello: Hello, tmp_path: Path) -> Iterator[Marked]:
    marks = Marks.new()
    since = tmp_path / "since"
    since.touch()
    home, tmp, person = tmp_path / "marked-home", tmp_path / "tmp", tmp_path / "person"
    for folder in (home, tmp, person):
        folder.mkdir()
    (home / "base").symlink_to((hello.home / "base").resolve())
    project = tmp_path / "marked"
    shutil.copytree(hello.project, project)
    files = tmp_path / "site-files"
    files.mkdir()

    def file(name: str, text: str) -> str:
        path = files / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    # Keys: an age identity, one with a passphrase, and the key that signs, with another.
    made = relforge("keys", "new", "--out", tmp_path / "keys", "--name", "vendor")
    assert made.code == 0, made.stderr
    age = (tmp_path / "keys" / "vendor.age.key").read_text()
    passphrase, signing_passphrase = marks._of("pass"), marks._of("sign")
    protected = rsa_private_pem(PrivateFormat.PKCS8, passphrase.encode()).decode()
    signing = (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(signing_passphrase.encode())
        )
        .decode()
    )
    # What the programs of the host log in with.
    login = base64.b64encode(f"me:{marks._of('docker')}".encode()).decode()
    engine = json.loads(hello.site.read_text())["engine"]
    config = person / ".docker"
    shutil.copytree(engine["config_dir"], config)
    known = (
        json.loads((config / "config.json").read_text())
        if (config / "config.json").exists()
        else {}
    )
    known["auths"] = {"registry.invalid": {"auth": login}}
    (config / "config.json").write_text(json.dumps(known))
    (person / ".netrc").write_text(f"machine git.example login me password {marks._of('netrc')}\n")
    (person / ".netrc").chmod(0o600)
    (person / ".git-credentials").write_text(f"https://me:{marks._of('git')}@git.example\n")
    (person / ".npmrc").write_text(f"//registry.invalid/:_authToken={marks._of('npm')}\n")
    (person / ".pypirc").write_text(f"[pypi]\nusername = me\npassword = {marks._of('pypi')}\n")
    (person / ".aws").mkdir()
    (person / ".aws" / "credentials").write_text(
        f"[default]\naws_secret_access_key = {marks._of('aws')}\n"
    )
    (person / ".cache" / "huggingface").mkdir(parents=True)
    (person / ".cache" / "huggingface" / "token").write_text(f"hf_{marks._of('hfcache')}")
    environment = {
        "HOME": str(person),
        "TMPDIR": str(tmp),
        "HF_TOKEN": f"hf_{marks._of('hfenv')}",
        "MODELSCOPE_API_TOKEN": marks._of("ms"),
        "CI_JOB_TOKEN": marks._of("ci"),
        "AWS_SECRET_ACCESS_KEY": marks._of("awsenv"),
        "COSIGN_PASSWORD": marks._of("cosign"),
        "DATABASE_URL": f"postgresql://me:{marks._of('url')}@db.invalid/x",
        "PIP_EXTRA_INDEX_URL": f"http://me:{marks._of('index')}@127.0.0.1:9/simple",
    }
    proxy_password = marks._of("proxy")
    _seal(hello, project, tmp_path)
    bare = ["git", "init", "-q", "--bare", str(tmp_path / "target.git")]
    subprocess.run(bare, check=True)
    with FakeProxy(login=f"me:{proxy_password}", elsewhere=True) as proxy:
        settings: dict[str, Any] = {
            **json.loads(hello.site.read_text()),
            "home": str(home),
            "dist": str(tmp_path / "marked-dist"),
            "engine": {**engine, "config_dir": str(config)},
            "trusted_keys": [
                {"name": "vendor", "public_key": str(tmp_path / "keys" / "vendor.sign.pub.pem")}
            ],
            "identities": [file("age.key", age), file("protected.pem", protected)],
            "key_passphrase_file": file("passphrase", passphrase + "\n"),
            "patch_sets": {},
            "hubs": {
                "huggingface": {"token_file": file("hf", f"hf_{marks._of('hffile')}")},
                "modelscope": {"token_file": file("ms", marks._of("msfile"))},
            },
            "proxy": {
                "https": proxy.url, "user": "me", "password_file": file("proxy", proxy_password),
            },
            "publish": {
                "signing": {
                    "key": file("signing.pem", signing),
                    "passphrase_file": file("signing.pass", signing_passphrase),
                },
                "targets": {"place": {"kind": "git", "url": f"file://{tmp_path / 'target.git'}"}},
            },
        }  # fmt: skip
        site = tmp_path / "marked.yaml"
        site.write_text(json.dumps(settings))
        identity = next(row for row in age.splitlines() if row.startswith("AGE-SECRET-KEY"))
        yield Marked(
            hello=hello, project=project, site=site, home=home, dist=tmp_path / "marked-dist",
            target=tmp_path / "target.git", person=person, tmp=tmp, since=since, marks=marks,
            settings=settings, environment=environment,
            keys=(
                identity.removeprefix("AGE-SECRET-KEY-1"), login, protected.splitlines()[3],
                signing.splitlines()[2],
            ),
            said=[],
        )  # fmt: skip


def _seal(hello: Hello, project: Path, tmp_path: Path) -> None:
    """Gives the release a sealed patch set that may be shipped whole."""
    seal(hello, project, tmp_path, ships="python", added="\n# adapted by the vendor\n")


def seal(hello: Hello, project: Path, tmp_path: Path, *, ships: str, added: str) -> Path:
    """Gives the release a sealed patch set that adds text to the server; returns a site for it."""
    work = tmp_path / "sealing"

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    git("clone", "-q", str(tmp_path / "git" / "hello.git"), str(work))
    with (work / "hello_server" / "__init__.py").open("a") as handle:
        handle.write(added)
    git("-C", str(work), "commit", "-qam", "Adapt")
    patches = project / "patches" / "secret"
    patches.mkdir(parents=True)
    (patches / "0001.patch").write_text(git("-C", str(work), "format-patch", "-1", "--stdout"))
    (patches / "series").write_text("0001.patch\n")
    path = project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["patches"] = [
        {"name": "secret", "source": "hello", "path": "patches/secret", "ships": ships}
    ]
    path.write_text(yaml.safe_dump(manifest))
    keys = tmp_path / "keys"
    at: list[str | Path] = ["--project", project, "--release", "hello-cpu_x86"]
    site = hello.other_site(
        tmp_path / "sealing.yaml",
        trusted_keys=[{"name": "vendor", "public_key": str(keys / "vendor.sign.pub.pem")}],
        identities=[str(keys / "vendor.age.key")],
        patch_sets={},
    )
    at += ["--site", site]
    bundle = project / "patches" / "secret.bundle"
    words: list[str | Path] = ["--recipient", keys / "vendor.age.pub"]
    words += ["--sign", keys / "vendor.sign.pem", "--out", bundle]
    sealed = relforge("patch", "seal", *at, "--patch-set", "secret", *words)
    assert sealed.code == 0, sealed.stderr
    shutil.rmtree(patches)
    path.write_text(path.read_text().replace("patches/secret", "patches/secret.bundle"))
    locked = relforge("lock", *at)
    assert locked.code == 0, locked.stderr
    return site


def test_no_marked_secret_comes_out_of_a_whole_release(marked: Marked) -> None:
    # The search finds what is there: else the rest would prove nothing.
    assert len(files_holding(marked.marks.common.encode(), marked.person)) >= 6

    assert marked.run("plan", "--json").code == 0
    done = marked.run("release", "--json")
    assert done.code == 0, done.stderr
    assert done.json["verdicts"]["attest"] == "pass", "the signing key was not used"
    record = json.loads((marked.dist / "hello-cpu_x86" / "release.json").read_text())
    assert record["results"]["unpatch"]["sets"][0]["sealed"] is True
    assert marked.run("card").code == 0
    words: list[str | Path] = ["--project", marked.project, "--site", marked.site]
    for more in (["runs", "show", done.json["run"], "--json"], ["runs", "show", done.json["run"]]):
        assert marked.noted(relforge(*more, *words, env=marked.environment)).code == 0
    sent = marked.run("publish", "--target", "place", "--json")
    assert sent.code == 0, sent.stderr
    marked.assert_nothing_came_out()

    # A fault of relforge itself, with a secret in the exception: the traceback has none.
    program = (
        "import relforge.stages.smoke as stage\n"
        "from relforge.network import Proxy\n"
        "def run(self, job, ctx):\n"
        "    raise ValueError(f'a fault: {Proxy.of(job.env.site).https}')\n"
        "stage.Smoke.run = run\n"
        "from relforge.cli import main\n"
        "main()\n"
    )
    path = marked.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    before = path.read_text()
    path.write_text(before.replace("ready_timeout_s: 30", "ready_timeout_s: 31"))
    argv = [*command("smoke", "--project", marked.project, "--release", "hello-cpu_x86",
                     "--site", marked.site)]  # fmt: skip
    argv[argv.index("-c") + 1] = program
    broken = subprocess.run(
        argv, capture_output=True, text=True, cwd=CHECKOUT, check=False,
        env={**os.environ, **marked.environment},
    )  # fmt: skip
    marked.noted(Result(broken.returncode, broken.stdout, broken.stderr))
    assert broken.returncode == 1, broken.stderr
    assert "Traceback" in broken.stderr
    assert "a fault: http://" in broken.stderr
    assert "[redacted]" in broken.stderr
    path.write_text(before)
    marked.assert_nothing_came_out()


def test_marked_logins_in_urls_are_refused_without_being_shown(marked: Marked) -> None:
    url = f"https://me:{marked.marks._of('mirror')}@git.invalid/"
    refused: tuple[dict[str, Any], ...] = (
        {"git_mirrors": [{"prefix": "https://git.example/", "to": url}]},
        {"python": {"index_mirrors": [{"prefix": "https://pypi.invalid/", "to": url}]}},
        {"hubs": {"huggingface": {"endpoint": url}}},
        {"proxy": {"https": url}},
        {"publish": {"targets": {"x": {"kind": "git", "url": url}}}},
    )
    for number, changes in enumerate(refused):
        site = marked.site.with_name(f"refused-{number}.yaml")
        site.write_text(json.dumps({**marked.settings, **changes}))
        done = marked.run("plan", "--json", site=site)
        assert done.code == 2, (changes, done.stderr)
    path = marked.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    path.write_text(path.read_text().replace("https://git.example/", url))
    for verb in ("plan", "lock", "release"):
        assert marked.run(verb).code == 2
    marked.assert_nothing_came_out()


def test_a_marked_token_in_a_build_argument_is_not_published(marked: Marked) -> None:
    path = marked.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["build"]["packages"][0]["env"]["HELLO_TOKEN"] = marked.marks.gitlab
    path.write_text(yaml.safe_dump(manifest))
    assert marked.run("lock").code == 0
    done = marked.run("release", "--json")
    assert done.code == 6, done.stderr
    assert "scan" in done.stderr
    assert "evidence/Dockerfile" in done.stderr
    assert "a GitLab token" in done.stderr
    assert not marked.dist.exists() or not list(marked.dist.rglob("*.json"))
    assert not any(marked.marks.common in said for said in marked.said)
    sent = marked.run("publish", "--target", "place")
    assert sent.code == 6
    refs = ["git", "-C", str(marked.target), "for-each-ref"]
    assert subprocess.run(refs, check=True, capture_output=True).stdout == b""
