"""docs/verify.md does what it says: its commands are run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.tar_store import TarStore
from tests.support.doc_blocks import Shell, marked
from tests.support.verify_scene import Scene

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
POLICY = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The tests' registry has no TLS, which oras has to be told.
PLAIN_HTTP = 'oras() { command oras "$@" --plain-http; }'


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
    (policy,) = POLICY.findall(PAGE.read_text())
    (folder / "policy.yaml").write_text(policy)
    shell = Shell(folder, {"IMAGE": image}, PLAIN_HTTP)
    said = [shell.type(block).both for block in marked("docs/verify.md", __file__)]
    assert "pass: it is whole, agrees with itself, and is signed by maker.pub.pem" in said[0]
    assert "policy.licenses" in "".join(said)


def test_a_card_is_checked_by_the_command_that_its_page_shows(scene: Scene) -> None:
    (block,) = marked("docs/cards.md", __file__)
    assert "every word of the cards" in PAGE.read_text()
    site = scene.root / "site.yaml"
    site.write_text(
        f"kind: site\ntrusted_keys: [{{name: maker, public_key: '{scene.made.key}'}}]\n"
    )
    said = Shell(scene.root, {"RELFORGE_SITE": str(site)}).type(block).both
    assert "ok   card" in said
    assert "signed by maker" in said


def test_the_report_that_the_page_shows_is_one(scene: Scene) -> None:
    from tests.integration.test_verify_forgeries import evidence_recorded

    evidence_recorded(scene)
    found = scene.verify("folder").finding("evidence")
    text = re.search(r"^```text\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert text is not None
    for part in (found.reason, f"means: {found.meaning}", f"next:  {found.next}"):
        assert part in text[1]
