"""docs/verify.md does what it says: its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.tar_store import TarStore
from tests.support.verify_scene import Scene

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
BLOCK = re.compile(r"^```(bash|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(folder: Path, script: str, image: str) -> tuple[int, str]:
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "IMAGE": image,
        "HOME": str(folder),
    }
    env.pop("RELFORGE_SITE", None)
    # The tests' registry has no TLS, which oras has to be told.
    whole = f'oras() {{ command oras "$@" --plain-http; }}\n{script}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", whole],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_the_page(scene: Scene) -> None:
    for program in ("cosign", "oras", "jq", "sha256sum"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is needed")
    folder = scene.root
    shutil.copy(scene.made.key, folder / "maker.pub.pem")
    source = LayoutStore(scene.forger.layout)
    digest = source.roots()[0][1].digest
    copy(source, TarStore(folder / "tiny-adder.tar"), digest, tag="relforge/tiny-adder:1")
    image = str(scene.placed("registry"))
    said = []
    for kind, block in BLOCK.findall(PAGE.read_text()):
        if kind == "yaml":
            (folder / "policy.yaml").write_text(block)
            continue
        code, output = run(folder, block, image)
        assert code == 0, f"{block}\n{output}"
        said.append(output)
    assert "pass: it is whole, agrees with itself, and is signed by maker.pub.pem" in said[0]
    assert "policy.licenses" in "".join(said)


def test_the_report_that_the_page_shows_is_one(scene: Scene) -> None:
    from tests.integration.test_verify_forgeries import evidence_recorded

    evidence_recorded(scene)
    found = scene.verify("folder").finding("evidence")
    text = re.search(r"^```text\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert text is not None
    for part in (found.reason, f"means: {found.meaning}", f"next:  {found.next}"):
        assert part in text[1]
