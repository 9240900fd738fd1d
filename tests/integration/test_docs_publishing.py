"""docs/publishing.md: its commands run, its tags are those that a release gets."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from relforge.cli import main
from relforge.manifest.publishing import PublishSite
from relforge.publishing.tags import release_tags
from tests.support.images import image
from tests.support.published import RELEASE, make_published
from tests.support.registries import docker_registry
from tests.unit.test_publishing_tags import record

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "publishing.md").read_text()
COMMANDS = re.findall(r"^relforge mirror .*$", TEXT, re.M)


def test_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(COMMANDS) == 5
    published = make_published(tmp_path)
    assert published.folder == tmp_path / "dist" / RELEASE
    image(tmp_path / "build-amd64", b"amd")
    image(tmp_path / "build-arm64", b"arm", architecture="arm64")
    (tmp_path / "site.yaml").write_text(f"kind: site\nhome: {tmp_path / 'home'}\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    monkeypatch.chdir(tmp_path)
    with docker_registry(tmp_path / "one") as one, docker_registry(tmp_path / "two") as two:
        for command in COMMANDS:
            text = command.replace("registry.example.org", one.host)
            text = text.replace("registry.behind.example", two.host)
            text = text.replace("/media/vendor", str(tmp_path / "media"))
            text = text.replace("sha256:...", published.image_digest)
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(text)[1:])
            assert ended.value.code == 0, text
        assert two.tags("models/tiny-adder") == [published.record["lock_sha256"][:12]] or (
            two.tags("models/tiny-adder") == ["v1"]
        )


def test_its_tags() -> None:
    long, short = re.findall(r"^\| (?:long|short) \| `(\S+)` \|$", TEXT, re.M)
    assert (long, short) == release_tags(record())


def test_its_configuration() -> None:
    import yaml

    block = TEXT.split("```yaml\n")[1].split("```")[0]
    found = PublishSite.model_validate(yaml.safe_load(block)["publish"])
    assert {target.kind for target in found.targets.values()} == {"registry", "folder", "tar"}
