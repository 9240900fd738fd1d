"""The hello release: git source, compiled C++, everything in seconds; and runs that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from relforge.attesting.predicates import EVALUATION, PROVENANCE, RELEASE, TEST_RESULT
from relforge.attesting.reading import read_attachments
from relforge.attesting.sealing import is_sealed
from relforge.attesting.verifying import verify_envelope, verify_signature
from relforge.oci.layout_store import LayoutStore
from relforge.patching.keys import load_signer
from tests.e2e.conftest import SAID, Hello, command, containers, relforge

pytestmark = pytest.mark.timeout(600)


def test_the_whole_release_from_git_to_folder(hello: Hello) -> None:
    done = hello.run("release", "--json")
    assert done.code == 0, done.stderr
    assert done.json["verdicts"] == {"smoke": "pass", "evaluate": "pass", **SAID}
    record = json.loads((hello.dist / "hello-cpu_x86" / "release.json").read_text())
    (package,) = record["results"]["build"]["packages"]
    assert package["native"] == "compiled"
    assert (
        record["lock"]["sources"]["hello"]["commit"]
        in record["lock"]["sources"]["hello"]["identity"]
    )
    assert record["results"]["evaluate"]["tasks"][0]["conclusion"] == "non-inferior"


def test_a_signed_release_is_sealed_once(hello: Hello, tmp_path: Path) -> None:
    assert relforge("keys", "new", "--out", tmp_path, "--name", "maker").code == 0
    key = str(tmp_path / "maker.sign.pem")
    site = hello.other_site(tmp_path / "signed.yaml", publish={"signing": {"key": key}})
    done = hello.run("release", "--json", site=site)
    assert done.code == 0, done.stderr
    assert done.json["verdicts"]["attest"] == "pass"
    folder = hello.dist / "hello-cpu_x86"
    signer = load_signer("maker", tmp_path / "maker.sign.pub.pem")
    image = done.json["image_digest"]
    found = read_attachments(LayoutStore(folder / "image"), image)
    assert verify_signature(found.signatures[0], image, [signer]) == signer
    said = [verify_envelope(one.envelope, image, [signer]).statement for one in found.envelopes]
    assert {one.predicate_type for one in said} >= {PROVENANCE, TEST_RESULT, EVALUATION, RELEASE}
    provenance = said[0].predicate["buildDefinition"]["resolvedDependencies"]
    (source,) = (one for one in provenance if one["name"] == "source/hello")
    record = json.loads((folder / "release.json").read_text())
    assert source["digest"]["gitCommit"] == record["lock"]["sources"]["hello"]["commit"]
    versions = said[0].predicate["runDetails"]["builder"]["version"]
    assert set(versions) == {"relforge", "engine", "buildx"}
    assert is_sealed(folder, signer.public_key)
    assert f"key id `{signer.keyid}`" in (folder / "README.md").read_text()
    assert relforge("verify", folder, "--key", tmp_path / "maker.sign.pub.pem").code == 0

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = hello.run("release", "--json", site=site)
    assert again.code == 0, again.stderr
    assert {s["status"] for s in again.json["stages"]} <= {"reused", "skipped"}
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    # Without the key nobody vouches any more for what is there.
    unsigned = hello.run("release", "--json")
    assert unsigned.code == 0, unsigned.stderr
    ran = {s["name"] for s in unsigned.json["stages"] if s["status"] == "ran"}
    assert ran.isdisjoint({"unpatch", "build", "smoke", "evaluate"})
    assert is_sealed(folder, None)
    assert not (folder / "release.dsse.json").exists()


def test_a_signing_key_that_is_no_good_is_told_before_anything_is_built(
    hello: Hello, tmp_path: Path
) -> None:
    lost = str(tmp_path / "lost.pem")
    site = hello.other_site(
        tmp_path / "lost.yaml", home=str(tmp_path / "home"), publish={"signing": {"key": lost}}
    )
    done = hello.run("release", site=site)
    assert done.code == 4, done.stderr
    assert lost in done.stderr
    assert "> build" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_edit_does_not_compile_again(hello: Hello, tmp_path: Path) -> None:
    assert hello.run("build").code == 0
    commit = edited_source(tmp_path, "hello_server/__init__.py", f"# {time.time_ns()}\n")
    pin(hello, commit)
    done = hello.run("build", "--json")
    assert done.code == 0, done.stderr
    log = latest_log(hello, "buildkit-report.log")
    steps = ran_steps(log)
    assert "[wheel-hello" in steps
    assert "[native-hello" not in steps, "the compile step was keyed on more than it reads"
    assert "[dependencies" not in steps
    assert "[toolchain" not in steps


def test_a_native_edit_compiles_again(hello: Hello, tmp_path: Path) -> None:
    assert hello.run("build").code == 0
    commit = edited_source(tmp_path, "csrc/_adder.cpp", f"\n// {time.time_ns()}\n")
    pin(hello, commit)
    done = hello.run("build")
    assert done.code == 0, done.stderr
    assert "[native-hello" in ran_steps(latest_log(hello, "buildkit-report.log"))


def test_published_by_digest_to_a_real_registry(
    hello: Hello, registry: str, tmp_path: Path
) -> None:
    assert relforge("keys", "new", "--out", tmp_path, "--name", "maker").code == 0
    key, public = tmp_path / "maker.sign.pem", tmp_path / "maker.sign.pub.pem"
    site = hello.other_site(tmp_path / "signed.yaml", publish={"signing": {"key": str(key)}})
    words = ("--registry", f"{registry}/team/hello", "--json")
    done = hello.run("release", *words, site=site)
    assert done.code == 0, done.stderr
    digest = done.json["image_digest"]
    steps = [(one["step"], one["state"]) for one in done.json["sent"]]
    assert steps == [("candidate", "done"), ("promote", "done")]
    tagged = done.json["sent"][1]["delivery"]["references"][0]
    assert relforge("verify", tagged, "--key", public).code == 0
    again = hello.run("release", *words, site=site)
    assert [one["state"] for one in again.json["sent"]] == ["nothing", "nothing"]
    import requests

    found = requests.get(
        f"http://{registry}/v2/team/hello/manifests/{digest}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        timeout=10,
    )
    assert found.status_code == 200
    assert found.headers["Docker-Content-Digest"] == digest
    card = (hello.dist / "hello-cpu_x86" / "README.md").read_text()
    assert f"docker pull {registry}/team/hello@{digest}" in card


def test_what_nobody_signed_gets_no_release_tag(hello: Hello, registry: str) -> None:
    done = hello.run("release", "--registry", f"{registry}/team/unsigned", "--json")
    assert done.code == 6, done.stderr
    candidate, promotion = done.json["sent"]
    assert (candidate["state"], promotion["state"]) == ("not-done", "failed")
    assert "signature" in promotion["error"]
    import requests

    found = requests.get(f"http://{registry}/v2/team/unsigned/tags/list", timeout=10)
    assert found.status_code == 404, "not a byte was sent"


def test_a_registry_that_refuses_is_a_publish_error(hello: Hello) -> None:
    done = hello.run("publish", "--registry", "127.0.0.1:9/team/hello")
    assert done.code == 7, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["build", "smoke"])
def test_killed_and_run_again(hello: Hello, tmp_path: Path, stage: str) -> None:
    # A home of its own, so that the stage really runs; the base image is shared.
    home = tmp_path / "home"
    home.mkdir()
    (home / "base").symlink_to((hello.home / "base").resolve())
    site = hello.other_site(tmp_path / "killed.yaml", home=str(home))
    words: list[str | Path] = [
        "release",
        "--project",
        hello.project,
        "--release",
        "hello-cpu_x86",
        "--site",
        site,
    ]
    with subprocess.Popen(
        command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith(f"> {stage}"):
                break
        time.sleep(1.0 if stage == "smoke" else 3.0)
        os.killpg(running.pid, signal.SIGKILL)
    again = hello.run("release", "--json", site=site)
    assert again.code == 0, again.stderr
    statuses = {s["name"]: s["status"] for s in again.json["stages"]}
    assert statuses["sources"] == "reused", "what was finished is not done again"
    assert containers() == []
    assert list((home / "work").iterdir()) == []


def test_two_runs_at_once_share_the_work(hello: Hello, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "base").symlink_to((hello.home / "base").resolve())
    site = hello.other_site(tmp_path / "two.yaml", home=str(home))
    words = command(
        "build", "--project", hello.project, "--release", "hello-cpu_x86", "--site", site, "--json"
    )
    both = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    outputs = [json.loads(run.communicate()[0]) for run in both]
    assert [run.returncode for run in both] == [0, 0]
    assert outputs[0]["image_digest"] == outputs[1]["image_digest"]
    builds = [s["status"] for o in outputs for s in o["stages"] if s["name"] == "build"]
    assert sorted(builds) == ["ran", "reused"]


def edited_source(tmp_path: Path, file: str, text: str) -> str:
    """Appends to a file of the source's repository and commits; returns the commit."""
    return edited_files(tmp_path, {file: text})


def edited_files(tmp_path: Path, texts: dict[str, str]) -> str:
    """Appends to files of the source's repository, which may be new; returns the commit."""
    bare = tmp_path / "git" / "hello.git"
    work = tmp_path / "edit"

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    git("clone", "-q", str(bare), str(work))
    for file, text in texts.items():
        with (work / file).open("a") as handle:
            handle.write(text)
    git("-C", str(work), "add", "--all")
    git("-C", str(work), "commit", "-qm", "edit")
    git("-C", str(work), "push", "-q", str(bare), "HEAD:refs/heads/edited")
    return git("-C", str(work), "rev-parse", "HEAD")


def pin(hello: Hello, commit: str, site: Path | None = None) -> None:
    """Pins the source at another commit and locks."""
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    rows = [
        f"    commit: {commit}" if row.strip().startswith("commit:") else row
        for row in manifest.read_text().splitlines()
    ]
    manifest.write_text("\n".join(rows) + "\n")
    locked = hello.run("lock", site=site)
    assert locked.code == 0, locked.stderr


def latest_log(hello: Hello, name: str) -> str:
    """A log of the newest run."""
    run = sorted((hello.home / "runs").iterdir())[-1]
    return (run / "hello-cpu_x86" / "logs" / name).read_text()


def ran_steps(log: str) -> str:
    """The log lines that report a step with the time it took: those not taken from the cache."""
    rows = (row for row in log.splitlines() if row.startswith("["))
    return "\n".join(row for row in rows if not row.endswith(": cached"))
