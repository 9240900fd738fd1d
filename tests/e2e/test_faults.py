"""Bad input: the right exit code, place and remedy in the error, nothing half-done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKOUT, QUICKSTART_SITE, Hello, relforge, site_settings, write_site

pytestmark = pytest.mark.timeout(600)
REAL = ("--release", "tiny-adder-cpu_x86")


def refused(code: int, said: str, result: object) -> None:
    """The command ended with this code, said this, and shows no traceback."""
    stderr = result.stderr  # type: ignore[attr-defined]
    assert result.code == code, stderr  # type: ignore[attr-defined]
    assert said in stderr, stderr
    assert "Traceback" not in stderr, stderr


def test_an_engine_that_does_not_run(tmp_path: Path, hello: Hello) -> None:
    site = hello.other_site(
        tmp_path / "s.yaml", home=str(tmp_path / "home"),
        engine={"host": f"unix://{tmp_path}/none.sock"},
    )  # fmt: skip
    result = hello.run("build", site=site)
    refused(3, "engine", result)
    assert "scripts/engine up" in result.stderr


def test_a_disk_that_is_nearly_full(tmp_path: Path, hello: Hello) -> None:
    site = hello.other_site(
        tmp_path / "s.yaml", home=str(tmp_path / "home"), min_free_disk_bytes=10**18
    )
    result = hello.run("build", site=site)
    refused(3, "disk", result)
    assert "free disk space" in result.stderr


def test_a_missing_key(tmp_path: Path) -> None:
    site = write_site(tmp_path / "s.yaml", identities=[], home=str(tmp_path / "home"))
    refused(4, "no private key", relforge("build", *REAL, "--site", site))


def test_a_wrong_key(tmp_path: Path) -> None:
    made = relforge("keys", "new", "--out", tmp_path / "keys", "--name", "other")
    assert made.code == 0, made.stderr
    site = write_site(tmp_path / "s.yaml", identities=[])
    result = relforge(
        "unpatch", *REAL, "--site", site, "--key-path", tmp_path / "keys" / "other.age.key",
        "--dir", tmp_path / "out",
    )  # fmt: skip
    refused(4, "other.age.key", result)
    assert not list(tmp_path.glob("out/**/*.py"))


@pytest.mark.parametrize("where", [0.02, 0.5, 0.999])
def test_one_flipped_byte_in_a_bundle(tmp_path: Path, where: float) -> None:
    sealed = Path(site_settings()["patch_sets"]["vllm-0.32.0-cpu"])
    data = bytearray(sealed.read_bytes())
    data[int(len(data) * where)] ^= 1
    altered = tmp_path / "altered.bundle"
    altered.write_bytes(data)
    site = write_site(tmp_path / "s.yaml", patch_sets={"vllm-0.32.0-cpu": str(altered)})
    result = relforge("unpatch", *REAL, "--site", site, "--dir", tmp_path / "out")
    refused(4, "altered.bundle", result)
    assert not list(tmp_path.glob("out/**/*.py"))


def test_a_bundle_of_an_unknown_signer(tmp_path: Path) -> None:
    site = write_site(tmp_path / "s.yaml", trusted_keys=[])
    refused(4, "sign", relforge("plan", *REAL, "--site", site))


def test_an_archive_that_is_not_the_pinned_one(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(CHECKOUT / "manifests", project / "manifests")
    manifest = project / "manifests" / "releases" / "tiny-adder-cpu_x86.yaml"
    right = "d7c5a6121bf2d3f7daddde43bfa7cae739de6cb5b294dcfe7ae6173045c35552"
    assert right in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(right, "f" * 64))
    site = write_site(tmp_path / "s.yaml", home=str(tmp_path / "home"))
    result = relforge("lock", *REAL, "--project", project, "--site", site)
    refused(4, "flag_gems", result)
    assert "f" * 64 in result.stderr


def test_a_stale_lock(tmp_path: Path, hello: Hello) -> None:
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    manifest.write_text(manifest.read_text().replace("wheel>=0.45", "wheel>=0.46"))
    result = hello.run("build")
    refused(2, "stale", result)
    assert "relforge lock --release hello-cpu_x86" in result.stderr


def test_weights_that_are_not_the_pinned_ones(hello: Hello) -> None:
    (hello.project / "model" / "table.json").write_text("{}")
    result = hello.run("release")
    refused(4, "table.json", result)


def change_server(hello: Hello, *words: str) -> None:
    """Serves with another command; the image stays the same."""
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    text = manifest.read_text()
    start = text.index("  command:")
    end = text.index("  shm_bytes:")
    manifest.write_text(f"{text[:start]}  command: {json.dumps(list(words))}\n{text[end:]}")


def test_a_server_that_dies_at_start(hello: Hello) -> None:
    change_server(hello, "python3", "-c", "raise SystemExit('no luck today')")
    result = hello.run("smoke")
    refused(6, "no luck today", result)


def test_a_server_that_answers_rubbish(hello: Hello) -> None:
    program = (
        "import http.server as h\n"
        "class R(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'<html>')\n"
        "    do_POST = do_GET\n"
        "h.HTTPServer(('', 8000), R).serve_forever()\n"
    )
    change_server(hello, "python3", "-c", program)
    result = hello.run("smoke")
    refused(6, "models", result)


def test_a_model_that_got_worse_fails_the_evaluation(hello: Hello) -> None:
    import hashlib

    table = hello.project / "model" / "table.json"
    wrong = json.loads(table.read_text())
    for a in range(10, 60):
        for b in range(10, 100):
            wrong["wrong"].setdefault(f"{a}+{b}=", "0")
    # The texts that smoke compares stay right: only the evaluation can notice.
    reference = json.loads((hello.project / "reference.json").read_text())
    for text in reference["greedy"]:
        if wrong["wrong"].get(text["prompt"]) == "0":
            del wrong["wrong"][text["prompt"]]
    before = hashlib.sha256(table.read_bytes()).hexdigest()
    table.write_text(json.dumps(wrong))
    model = hello.project / "manifests" / "models" / "hello.yaml"
    after = hashlib.sha256(table.read_bytes()).hexdigest()
    model.write_text(model.read_text().replace(before, after))
    result = hello.run("release")
    refused(6, "inferior", result)
    assert not (hello.dist / "hello-cpu_x86").exists(), "nothing is published that failed a gate"


def test_an_edited_reference_is_noticed(hello: Hello) -> None:
    reference = hello.project / "reference.json"
    reference.write_text(reference.read_text().replace('"correct": true', '"correct": false', 1))
    refused(4, "reference of hello", hello.run("plan"))


def test_a_bad_registry_name_is_found_before_anything_runs(hello: Hello) -> None:
    result = hello.run("release", "--registry", "NOT A REGISTRY")
    refused(2, "NOT A REGISTRY", result)
    assert not (hello.home / "runs").exists() or "NOT A" not in result.stdout


def test_quickstart_is_safe_to_run_twice() -> None:
    import subprocess

    before = (QUICKSTART_SITE.parent / "keys" / "quickstart.age.key").read_bytes()
    done = subprocess.run(
        ["./scripts/quickstart", "--keep-engine", "--no-release"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (QUICKSTART_SITE.parent / "keys" / "quickstart.age.key").read_bytes() == before
