"""docs/publishing.md: its commands run, its tags are those that a release gets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from relforge.manifest.publishing import PublishSite
from relforge.publishing.tags import release_tags
from tests.support.doc_blocks import Shell, marked
from tests.support.images import image
from tests.support.published import RELEASE, make_published
from tests.support.registries import docker_registry
from tests.unit.test_publishing_tags import record

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "publishing.md").read_text()


def test_its_commands(tmp_path: Path) -> None:
    blocks = marked("docs/publishing.md", __file__)
    published = make_published(tmp_path)
    assert published.folder == tmp_path / "dist" / RELEASE
    image(tmp_path / "build-amd64", b"amd")
    image(tmp_path / "build-arm64", b"arm", architecture="arm64")
    # The tests' registries have no TLS, which skopeo has to be told; relforge knows loopback.
    skopeo = 'skopeo() { command skopeo "$1" --dest-tls-verify=false "${@:2}"; }'
    (tmp_path / "site.yaml").write_text(f"kind: site\nhome: {tmp_path / 'home'}\n")
    shell = Shell(tmp_path, {"RELFORGE_SITE": str(tmp_path / "site.yaml")}, skopeo)
    with docker_registry(tmp_path / "one") as one, docker_registry(tmp_path / "two") as two:
        instead = {
            "registry.example.org": one.host,
            "registry.behind.example": two.host,
            "/media/vendor": str(tmp_path / "media"),
            "sha256:...": published.image_digest,
        }
        said = []
        for block in blocks:
            said.append(shell.type(block, instead).both)
            if (made := tmp_path / "media" / "tiny-adder.tar").exists():
                shutil.copy(made, tmp_path)
        assert two.tags("models/tiny-adder") == ["v1"]
        assert one.tags("models/tiny-adder") == ["both", "v1"]
    assert published.image_digest in said[1], "oras shows what the tar holds"


def test_its_tags() -> None:
    long, short = re.findall(r"^\| (?:long|short) \| `(\S+)` \|$", TEXT, re.M)
    assert (long, short) == release_tags(record())


def test_its_configuration() -> None:
    import yaml

    block = TEXT.split("```yaml\n")[1].split("```")[0]
    found = PublishSite.model_validate(yaml.safe_load(block)["publish"])
    assert {target.kind for target in found.targets.values()} == {"registry", "folder", "tar"}
