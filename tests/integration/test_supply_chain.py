"""A stranger with cosign, oras, jq and sha256sum: docs/supply-chain.md, run as it stands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.attesting import predicates
from relforge.attesting.attachments import (
    COSIGN_ATTESTATIONS,
    COSIGN_SIGNATURE,
    CYCLONEDX,
    RELEASE,
    SPDX,
)
from relforge.attesting.reading import read_attachments
from relforge.engine.layout import describe
from relforge.evidence import dsse
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.opening import open_store
from relforge.oci.store import ImageStore
from tests.support.doc_blocks import marked
from tests.support.registries import RealRegistry, docker_registry
from tests.support.signed import Maker

SHOWN = [block.text for block in marked("docs/supply-chain.md", __file__)]
FOLDER, REGISTRY = SHOWN[:3], SHOWN[3:]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as real:
        yield real


@pytest.fixture(scope="module", params=["ecdsa", "ed25519", "cosign"])
def maker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    root = tmp_path_factory.mktemp("maker")
    if request.param != "cosign":
        return Maker.at(root, kind=request.param)
    run("cosign", "generate-key-pair", "--output-key-prefix", str(root / "own"), password="words")
    (root / "pass").write_text("words\n")
    return Maker.at(root, key=root / "own.key", passphrase_file=root / "pass")


@pytest.fixture(scope="module")
def released(maker: Maker) -> Path:
    return maker.released()


@pytest.fixture
def folder(released: Path, maker: Maker, tmp_path: Path) -> Path:
    """A copy that a stranger has, with the maker's public key in it."""
    shutil.copytree(released, tmp_path / "release")
    (tmp_path / "release" / "maker.pub.pem").write_bytes(maker.key.public_pem)
    return tmp_path / "release"


@pytest.fixture
def image(folder: Path, registry: RealRegistry) -> str:
    """The repository that a release was copied to, with all that is attached to it."""
    name = f"{registry.host}/team/m{abs(hash(str(folder))):x}"
    copy(LayoutStore(folder / "image"), repository(name), describe(folder / "image").digest)
    return name


def repository(name: str) -> ImageStore:
    return open_store(f"{name}:x", Site())[0]


def run(*words: str, password: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which(words[0])
    if program is None:
        pytest.fail(f"{words[0]} is needed: scripts/test installs it")
    env = {**os.environ, "COSIGN_PASSWORD": password}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True)


def shell(folder: Path, *blocks: str, image: str = "") -> tuple[int, str]:
    # Only what stands in a block is the reader's; a registry of loopback has no certificate.
    before = f"IMAGE={image}\nDIGEST=$(jq -r .image_digest contents.json)\n" if image else ""
    before += 'oras() { command oras "$1" --plain-http "${@:2}"; }\n'
    for name in ("cosign", "oras", "jq", "sha256sum"):
        assert shutil.which(name), f"{name} is needed: scripts/test installs it"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", before + "\n".join(blocks)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_folder_is_checked_offline(folder: Path) -> None:
    assert len(FOLDER) == 3
    code, output = shell(folder, *FOLDER)
    assert code == 0, output
    assert output.count("Verified OK") == 3
    assert "source/vllm" in output
    assert "patch-set/vllm-0.32.0-cpu" in output


FORGERIES = {
    "layer": ({0}, "image/blobs/sha256/*"),
    "signature": ({0, 2}, "evidence/attestations/image.simplesigning.json"),
    "provenance": ({1, 2}, "evidence/attestations/provenance.dsse.json"),
    "card": ({2}, "README.md"),
    "record": ({2}, "release.json"),
    "evidence": ({2}, "evidence/smoke.json"),
    "seal": ({2}, "release.dsse.json"),
}
"""Which of the blocks for a folder notice, and what is altered: the largest file of these."""


@pytest.mark.parametrize("what", FORGERIES)
def test_what_is_forged_fails_in_the_blocks_that_cover_it(folder: Path, what: str) -> None:
    notice, pattern = FORGERIES[what]
    path = max(folder.glob(pattern), key=lambda one: one.stat().st_size)
    data = path.read_bytes()
    at = len(data) // 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    start = "DIGEST=$(jq -r .image_digest contents.json)\n"
    for number, block in enumerate(FOLDER):
        code, output = shell(folder, start + block)
        assert (code != 0) == (number in notice), output


def test_another_key_is_refused(folder: Path, tmp_path: Path) -> None:
    other = Maker.at(tmp_path / "other")
    (folder / "maker.pub.pem").write_bytes(other.key.public_pem)
    start = "DIGEST=$(jq -r .image_digest contents.json)\n"
    for block in FOLDER:
        code, output = shell(folder, start + block)
        assert code != 0
        assert "signature" in output


def test_a_registry_shows_the_same_to_cosign_and_oras(folder: Path, image: str) -> None:
    assert len(REGISTRY) == 2
    code, output = shell(folder, *REGISTRY, image=image)
    assert code == 0, output
    assert output.count("The signatures were verified against the specified public key") == 3
    for kind in (COSIGN_SIGNATURE, COSIGN_ATTESTATIONS, SPDX, CYCLONEDX, RELEASE):
        assert kind in output
    contents = json.loads((folder / "contents.json").read_text())["files"]
    for name in ("release.json", "contents.json", *contents):
        assert (folder / "got" / name).read_bytes() == (folder / name).read_bytes()


def test_cosign_accepts_every_statement_and_no_other_key(
    folder: Path, image: str, maker: Maker, tmp_path: Path
) -> None:
    digest = describe(folder / "image").digest
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Maker.at(tmp_path / "other").key.public_pem)
    found = read_attachments(repository(image), digest)
    assert len(found.envelopes) == 9
    short = {predicates.SPDX: "spdxjson", predicates.CYCLONEDX: "cyclonedx"}
    for one in found.envelopes:
        kind = one.predicate_type or ""
        for key, good in ((folder / "maker.pub.pem", True), (stranger, False)):
            done = subprocess.run(
                [
                    "cosign", "verify-attestation", "--key", key, "--insecure-ignore-tlog",
                    "--type", short.get(kind, kind), f"{image}@{digest}",
                ],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode == 0) == good, done.stderr
            if good:
                assert dsse.parse(done.stdout.strip().encode()) == one.envelope
    assert maker.key.keyid == found.envelopes[0].envelope.signatures[0].keyid


def test_others_add_their_signatures_beside_ours(folder: Path, image: str, tmp_path: Path) -> None:
    digest = describe(folder / "image").digest
    run("cosign", "generate-key-pair", "--output-key-prefix", str(tmp_path / "tester"))
    (tmp_path / "predicate.json").write_text('{"seen": true}')
    theirs = ["--key", str(tmp_path / "tester.key"), "--tlog-upload=false", "--yes"]
    run("cosign", "sign", *theirs, f"{image}@{digest}")
    predicate = ["--type", "custom", "--predicate", str(tmp_path / "predicate.json")]
    run("cosign", "attest", *theirs, *predicate, f"{image}@{digest}")
    for key in (folder / "maker.pub.pem", tmp_path / "tester.pub"):
        run("cosign", "verify", "--key", str(key), "--insecure-ignore-tlog", f"{image}@{digest}")
    code, output = shell(folder, *REGISTRY, image=image)
    assert code == 0, output
    found = read_attachments(repository(image), digest)
    assert not found.unreadable
    assert len(found.signatures) == 2
    assert len(found.envelopes) == 10
