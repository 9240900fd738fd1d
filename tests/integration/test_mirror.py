"""``relforge mirror`` as a user types it, and other programs that read what it wrote."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relforge.attesting.withdrawing import attach, withdrawal
from relforge.cli import main
from relforge.manifest.site import Site
from relforge.oci.layout_store import LayoutStore
from relforge.oci.tar_store import TarStore
from tests.support.images import attachment, image, signed_image
from tests.support.published import make_published
from tests.support.registries import RealRegistry, docker_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.yaml").write_text(f"kind: site\nhome: {tmp_path / 'home'}\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    monkeypatch.chdir(tmp_path)


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(["mirror", *map(str, words)])
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


def test_every_way_and_back(registry: RealRegistry, tmp_path: Path, run: Any) -> None:
    digest, attached = signed_image(tmp_path / "a", b"x", b"y")
    places = [
        "a", f"{registry.host}/team/one:v1", "b.tar", f"{registry.host}/team/two:v1", "c",
        f"{registry.host}/team/three:v1", f"{registry.host}/team/four:v1", "d", "e.tar", "f.tar",
        "g", "h",
    ]  # fmt: skip
    for source, destination in itertools.pairwise(places):
        done = run(source, destination, "--json")
        assert done.code == 0, done.err
        assert done.json["digest"] == digest
        assert done.json["state"] == "changed"
        again = run(source, destination, "--json")
        assert again.json["state"] == "nothing"
        assert again.json["sent_bytes"] == 0
    assert {one.digest for one in LayoutStore(tmp_path / "h").referrers(digest)} == set(attached)


def test_a_dry_run_changes_nothing(registry: RealRegistry, tmp_path: Path, run: Any) -> None:
    image(tmp_path / "a", b"dry")
    done = run("a", f"{registry.host}/team/dry", "--dry-run")
    assert done.code == 0
    assert "3 pieces would be sent" in done.out
    assert registry.tags("team/dry") == []
    assert not any("team/dry" in str(path) for path in registry.data.rglob("dry"))


def test_without_attachments(registry: RealRegistry, tmp_path: Path, run: Any) -> None:
    signed_image(tmp_path / "a", b"bare")
    assert run("a", f"{registry.host}/team/bare:v1", "--no-attachments").code == 0
    assert registry.tags("team/bare") == ["v1"]


def test_a_published_folder_stands_for_its_image(tmp_path: Path, run: Any) -> None:
    published = make_published(tmp_path)
    attachment(published.layout, published.image_digest, b'{"spdx": 1}')
    done = run(published.folder, "image.tar", "--json")
    assert done.json["digest"] == published.image_digest
    assert done.json["tag"] == published.record["results"]["build"]["image_name"]
    refused = run("image.tar", published.folder)
    assert refused.code == 2
    assert "nothing to copy into" in refused.err


def test_images_are_merged(registry: RealRegistry, tmp_path: Path, run: Any) -> None:
    for architecture in ("amd64", "arm64"):
        image(tmp_path / architecture, architecture.encode(), architecture=architecture)
    done = run("amd64", "arm64", "--merge", f"{registry.host}/team/both:v2", "--json")
    assert done.code == 0, done.err
    assert done.json["platforms"] == ["linux/amd64", "linux/arm64"]
    other = run("--merge", "arm64", "amd64", "both.tar:v2", "--json")
    assert other.json["digest"] == done.json["digest"]
    assert TarStore(tmp_path / "both.tar").tags() == ("v2",)
    copied = run("both.tar:v2", f"{registry.host}/team/both", "--json")
    assert copied.json["state"] == "nothing"
    refused = run("amd64", "amd64", "arm64")
    assert refused.code == 2
    assert "--merge" in refused.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nowhere", "b"), 7, "there is no such image"),
        (("a",), 2, "a source and a destination are wanted"),
        (("a:other", "b"), 7, "does not have other"),
        (("two", "b"), 2, "there are several images"),
        (("HOST/team/none:v1", "b"), 7, "there is no such image"),
        (("HOST/team/none", "b"), 2, "a tag or a digest is missing"),
        (("a", "HOST/Team/x:v1"), 2, "not a registry target"),
        (("a", "127.0.0.1:1/team/x:v1"), 7, "it cannot be reached"),
    ],
)
def test_what_cannot_be(
    registry: RealRegistry,
    tmp_path: Path,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    from relforge.retrying import RetryPolicy

    monkeypatch.setattr("relforge.oci.registry.POLICY", RetryPolicy(attempts=1))
    image(tmp_path / "a", b"x")
    image(tmp_path / "two", b"x", tag="v1")
    image(tmp_path / "two", b"y", tag="v2")
    done = run(*(word.replace("HOST", registry.host) for word in words))
    assert done.code == code, done.err
    assert says in done.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["registry", "folder", "tar"])
def test_a_tag_leaves_another_image_only_when_asked_to(
    registry: RealRegistry, tmp_path: Path, run: Any, kind: str
) -> None:
    first = image(tmp_path / "a", b"first")
    second = image(tmp_path / "b", b"second")
    place = {"registry": f"{registry.host}/team/moving:v1", "folder": "out:v1", "tar": "o.tar:v1"}[
        kind
    ]
    assert run("a", place).code == 0
    for words in (("b", place), ("b", place, "--dry-run")):
        refused = run(*words)
        assert refused.code == 7
        assert "the tag is another image's" in refused.err
        assert first in refused.err
        assert second in refused.err
        assert "--move-tag" in refused.err
    again = run(place, "back", "--json")
    assert again.json["digest"] == first
    # Nothing of the refused image was sent either.
    assert kind != "registry" or not registry.has(second)
    done = run("b", place, "--move-tag")
    assert done.code == 0, done.err
    assert f"which pointed to {first}" in done.out


def test_a_tag_that_somebody_else_takes_meanwhile_stays_theirs(
    registry: RealRegistry, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relforge.oci import copying
    from relforge.oci.reference import Repository
    from relforge.oci.registry import RegistryStore

    first = image(tmp_path / "a", b"mine")
    other = image(tmp_path / "b", b"theirs")
    theirs = RegistryStore(Repository.parse(f"{registry.host}/team/race"), site=Site())
    whole = copying._require_whole

    def late(*words: Any) -> None:
        whole(*words)
        monkeypatch.undo()
        copying.copy(LayoutStore(tmp_path / "b"), theirs, other, tag="v1")

    monkeypatch.setattr(copying, "_require_whole", late)
    refused = run(tmp_path / "a", f"{registry.host}/team/race:v1")
    assert refused.code == 7
    assert other in refused.err
    assert first in refused.err
    found = theirs.manifest("v1")
    assert found is not None
    assert found.descriptor.digest == other


def withdraw(layout: Path, digest: str) -> None:
    store = LayoutStore(layout)
    found = store.manifest(digest)
    assert found is not None
    made = withdrawal(
        found.descriptor.plain, release="r", reason="wrong answers",
        created="2026-01-01T00:00:00Z", key=None,
    )  # fmt: skip
    attach(store, made)


def test_a_withdrawn_image_is_copied_only_when_that_is_meant(
    registry: RealRegistry, tmp_path: Path, run: Any
) -> None:
    place = f"{registry.host}/team/withdrawn"
    for name in ("a", "b"):
        digest = image(tmp_path / name, b"taken back")
    withdraw(tmp_path / "b", digest)
    refused = run("b", f"{place}:v1")
    assert refused.code == 7
    assert "this image was withdrawn" in refused.err
    assert "wrong answers" in refused.err
    assert registry.tags("team/withdrawn") == []
    done = run("b", f"{place}:v1", "--withdrawn")
    assert done.code == 0, done.err
    # A copy that was made before the statement gives no way around it, nor does a merged image.
    assert run("a", f"{place}:v2").code == 7
    assert run("b", "--merge", "merged").code == 7
    assert run(f"{place}:v1", "c").code == 7
    assert not (tmp_path / "c").exists()
    assert "v2" not in registry.tags("team/withdrawn")


def test_tags_of_a_release_repository_are_for_promotion(
    registry: RealRegistry, tmp_path: Path, run: Any
) -> None:
    digest = image(tmp_path / "a", b"not promoted")
    target = {"kind": "registry", "release": f"{registry.host}/rel/{{model}}-{{device}}",
              "candidate": f"{registry.host}/wait/{{model}}"}  # fmt: skip
    site = {"kind": "site", "home": str(tmp_path / "home"), "publish": {"targets": {"hub": target}}}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    for words in ((":v1",), ("",), (":v1", "--move-tag", "--withdrawn")):
        place, *options = words
        refused = run("a", f"{registry.host}/rel/tiny-adder-cpu_x86{place}", *options)
        assert refused.code == 7
        assert "relforge promote --target hub" in refused.err
    assert registry.tags("rel/tiny-adder-cpu_x86") == []
    assert not registry.has(digest)
    for place in (f"rel/tiny-adder-cpu_x86@{digest}", "rel/one/two-three:v1", "wait/x:v1"):
        done = run("a", f"{registry.host}/{place}")
        assert done.code == 0, done.err
    assert registry.tags("rel/tiny-adder-cpu_x86") == []


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is needed: scripts/test installs it")
    return found


def test_skopeo_reads_what_we_wrote(registry: RealRegistry, tmp_path: Path, run: Any) -> None:
    digest, _ = signed_image(tmp_path / "a", b"for skopeo")
    run("a", "a.tar")
    run("a", f"{registry.host}/team/skopeo:v1")
    skopeo = tool("skopeo")
    for place in ("oci:a:v1", "oci-archive:a.tar:v1", f"docker://{registry.host}/team/skopeo:v1"):
        shown = subprocess.run(
            [skopeo, "inspect", "--tls-verify=false", place],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(shown.stdout)["Digest"] == digest
    subprocess.run(
        [skopeo, "copy", "--quiet", "--src-tls-verify=false",
         f"docker://{registry.host}/team/skopeo:v1", "oci:back:v1"],
        check=True,
    )  # fmt: skip
    done = run("back", f"{registry.host}/team/skopeo:v1", "--json")
    assert done.json["state"] == "nothing"


def test_oras_lists_what_is_attached(registry: RealRegistry, tmp_path: Path, run: Any) -> None:
    digest, attached = signed_image(tmp_path / "a", b"for oras")
    run("a", "a.tar")
    run("a", f"{registry.host}/team/oras:v1")
    oras = tool("oras")
    for place in (
        ["--oci-layout", f"a@{digest}"],
        ["--oci-layout", f"a.tar@{digest}"],
        ["--plain-http", f"{registry.host}/team/oras:v1"],
    ):
        shown = subprocess.run(
            [oras, "discover", "--format", "json", *place],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert {one["digest"] for one in json.loads(shown.stdout)["manifests"]} == set(attached)
    subprocess.run(
        [oras, "copy", "--recursive", "--from-plain-http", "--to-oci-layout",
         f"{registry.host}/team/oras:v1", "copied:v1"],
        check=True, capture_output=True,
    )  # fmt: skip
    back = LayoutStore(tmp_path / "copied")
    assert {one.digest for one in back.referrers(digest)} == set(attached)
    done = run("copied:v1", f"{registry.host}/team/oras:v1", "--json")
    assert done.json["state"] == "nothing"
