"""The guides for release engineers and users, and what other pages show of a built release.

Typed as it stands there: a real engine, a signed release of examples/hello, a real registry.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import QUICKSTART_SITE, Hello, containers, relforge
from tests.support.doc_blocks import ROOT, Marked, Shell, marked
from tests.support.published import make_published

pytestmark = pytest.mark.timeout(600)
SHELF = "/srv/releases"


@dataclass(frozen=True)
class Scene:
    """A project in a git repository that signs and publishes, and where a shelf is."""

    project: Path
    shelf: Path
    key: Path
    shell: Shell

    def type_all(self, blocks: Sequence[Marked]) -> list[str]:
        return [self.shell.type(one, {SHELF: str(self.shelf)}).both for one in blocks]


@pytest.fixture
def no_server() -> Iterator[None]:
    """The guide's own container goes, whatever happened."""
    yield
    subprocess.run(["docker", "rm", "--force", "hello"], capture_output=True, check=False)


@pytest.fixture
def scene(hello: Hello, tmp_path: Path) -> Scene:
    project, shelf = hello.project, tmp_path / "shelf"
    assert relforge("keys", "new", "--out", project / "keys", "--name", "maker").code == 0
    (project / ".relforge").mkdir()
    # A home of its own: the guide withdraws its release, and collects garbage.
    home = tmp_path / "guides-home"
    home.mkdir()
    if (hello.home / "base").exists():
        (home / "base").symlink_to((hello.home / "base").resolve())
    hello.other_site(
        project / ".relforge" / "site.yaml",
        home=str(home),
        dist=str(project / "dist"),
        publish={
            "signing": {"key": "../keys/maker.sign.pem"},
            "targets": {"shelf": {"kind": "folder", "path": str(shelf)}},
        },
    )
    shutil.copy(ROOT / "examples" / "settings" / "policy.yaml", project)
    shell = Shell(project)
    shell.type(
        "printf '.relforge\\nkeys\\ndist\\n' > .gitignore\n"
        "git init --quiet\ngit config user.name Tests\ngit config user.email tests@tests.invalid\n"
        "git add .\ngit commit --quiet --message 'The release'\n"
        "git commit --quiet --allow-empty --message 'Nothing'\n"
    )
    return Scene(project, shelf, project / "keys" / "maker.sign.pub.pem", shell)


def test_the_guides(scene: Scene, registry: str, tmp_path: Path, no_server: None) -> None:
    project = scene.project
    looked, one, several, runs, changed, policy, sent, taken, _board, gc, _flows = scene.type_all(
        marked("docs/guide-release-engineer.md", __file__)
    )
    assert " 0 faults" in looked
    assert "hello-cpu_x86: " in one
    assert "2 of 2 releases are done" in several
    assert "hello-cpu_x86-b: new" in changed
    assert "nothing is left to do" in runs
    assert "pass: it is whole" in policy
    assert "shelf" in sent
    assert "shelf" in taken
    assert not (scene.shelf / "hello-cpu_x86").exists()
    assert "hello" in (project / "board" / "index.html").read_text()
    assert "would" in gc
    assert "relforge ci" in (project / ".github" / "workflows" / "relforge.yml").read_text()
    assert (project / ".gitlab-ci.yml").is_file()

    # Somebody else, who has the folder, what lies in a registry, and the maker's key.
    user = tmp_path / "user"
    user.mkdir()
    shutil.copy(scene.key, user / "maker.pub.pem")
    shutil.copytree(project / "dist" / "hello-cpu_x86", scene.shelf / "hello-cpu_x86")
    image = f"{registry}/guide/hello:1"
    scene.shell.type(f"relforge mirror dist/hello-cpu_x86 {image}")
    site = tmp_path / "users-site.yaml"
    site.write_text(f"kind: site\nhome: {tmp_path / 'users-home'}\n")
    shell = Shell(user, {"IMAGE": image, "RELFORGE_SITE": str(site)})
    *before, last = marked("docs/guide-user.md", __file__)
    said = [shell.type(block, {SHELF: str(scene.shelf)}).both for block in before]
    # In the place of the server that runs comes one that does not start.
    made = json.loads((user / "hello-cpu_x86" / "release.json").read_text())["results"]["build"]
    shell.type(
        "docker rm --force hello\n"
        f"docker run --name hello --entrypoint python3 {made['image_name']} "
        "-c 'import vllm_toys' || test $? = 1"
    )
    explained = shell.type(last).both
    _folder, _tar, verified, by_hand, _started, answered = said
    assert verified.count("signed by maker.pub.pem") >= 2
    assert verified.count("pass: it is whole") == 2
    assert by_hand.count("Verified OK") == 2
    assert json.loads(answered[answered.index("{") :])["choices"][0]["text"] == "124"
    assert "1. module-missing" in explained
    assert "remedy: " in explained
    assert containers() == []


def test_a_rebuild_is_the_same(scene: Scene) -> None:
    scene.shell.type("relforge build --release hello-cpu_x86")
    (said,) = scene.type_all(marked("docs/reproducibility.md", __file__))
    assert "identical, sha256:" in said


def test_a_tar_is_loaded(tmp_path: Path) -> None:
    make_published(tmp_path)
    block = next(one for one in marked("docs/publishing.md", __file__))
    shell = Shell(tmp_path)
    shell.type("relforge mirror dist/tiny-adder-cpu_x86 tiny-adder.tar")
    assert "Loaded image" in shell.type(block).stdout
    shell.type("docker rmi --force relforge/tiny-adder-cpu_x86:999999999999")


SHOWN = {
    "README.md": marked("README.md", __file__),
    "docs/benchmarks.md": marked("docs/benchmarks.md", __file__),
    "docs/smoke.md": marked("docs/smoke.md", __file__),
    "docs/sbom.md": marked("docs/sbom.md", __file__),
}


@pytest.mark.parametrize("page", SHOWN)
def test_what_pages_show_of_the_real_release(
    page: str, quickstart_dist: Path, tmp_path: Path
) -> None:
    (block,) = SHOWN[page]
    shell = Shell(ROOT, {"RELFORGE_SITE": str(QUICKSTART_SITE)}, programs=tmp_path / "programs")
    said = shell.type(block).both
    expected = {"README.md": " 0 faults", "docs/sbom.md": "python\t"}
    assert expected.get(page, f"release  {quickstart_dist.name}") in said
