"""``--device bi_V150`` alone: the manifest names an entry of FlagScale's own repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.errors import ExitCode
from relforge.patching.keys import new_keys
from tests.support.flagscale import LittleFlagScale, seal, world
from tests.support.patching import files_with_mark, flagscale_key_folder

CHECKOUT = Path(__file__).resolve().parents[2]
RELEASE = "hello-bi_V150"
NO_SIGNATURE = "carries no signature and no checksum"


class Vendor:
    """A project with a release for bi_V150, and FlagScale's repository with its sealed patch."""

    def __init__(self, little: LittleFlagScale, project: Path) -> None:
        self.little = little
        self.project = project
        self.manifest = project / "manifests" / "releases" / f"{RELEASE}.yaml"
        self.lock_file = self.manifest.with_name(f"{RELEASE}.lock.yaml")
        little.legacy("bi_V150", seal(little.mailbox), end=".patch.encrypted")
        self.entries = little.fs.commit(message="entries")
        self.folder = f"hardware/bi_V150/{little.b8}"
        little.fs.git("reset", "-q", "--hard", little.base)
        little.fs.git("branch", "published", self.entries)
        self.name_patch_set()

    def name_patch_set(self, *, source: dict[str, Any] | None = None, **changes: Any) -> None:
        """The release manifest with one patch set."""
        content = yaml.safe_load(self.manifest.read_text())
        content["sources"] = {
            "flagscale": {
                "kind": "git",
                "url": self.little.fs.path.as_uri(),
                "commit": self.little.base,
                **(source or {}),
            }
        }
        patch_set = {
            "name": "bi-v150",
            "source": "flagscale",
            "path": self.folder,
            "repository": {"commit": self.entries},
            **changes,
        }
        content["patches"] = [patch_set]
        self.manifest.write_text(yaml.safe_dump(content))

    def run(self, verb: str, *words: str | Path) -> Any:
        return self.little.relforge(verb, *words, "--project", self.project)

    def lock(self, *words: str | Path) -> Any:
        return self.run("lock", "--release", RELEASE, *words)

    def locked(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.lock_file.read_text())["patches"]["bi-v150"]
        return found

    def with_keys(self, folder: Path | None) -> None:
        """What the site configuration says of keys."""
        site = self.project / ".relforge" / "site.yaml"
        site.parent.mkdir(exist_ok=True)
        keys = f"identities: ['{folder / 'private_key.pem'}']\n" if folder else ""
        site.write_text(f"kind: site\nhome: {self.little.root / 'home'}\n{keys}")

    def unpatch(self, *words: str | Path) -> Any:
        return self.run("unpatch", "--device", "BI-V150", "--dir", self.little.root / "out", *words)

    @property
    def tree(self) -> Path:
        return self.little.root / "out" / "bi_V150" / "flagscale"


@pytest.fixture
def vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Vendor:
    little = world(tmp_path, monkeypatch, capsys)
    monkeypatch.delenv("RELFORGE_SITE")  # the project has its own
    project = tmp_path / "project"
    shutil.copytree(CHECKOUT / "examples" / "hello", project)
    devices = project / "manifests" / "devices"
    devices.mkdir()
    shutil.copy(CHECKOUT / "manifests" / "devices" / "cpu_x86.yaml", devices / "bi_V150.yaml")
    _edit(
        devices / "bi_V150.yaml",
        lambda d: {**d, "name": "bi_V150", "aliases": [], "default_release": RELEASE},
    )
    releases = project / "manifests" / "releases"
    (releases / "hello-cpu_x86.yaml").rename(releases / f"{RELEASE}.yaml")
    (releases / "hello-cpu_x86.lock.yaml").unlink()
    _edit(
        releases / f"{RELEASE}.yaml",
        lambda d: {**d, "name": RELEASE, "device": "bi_V150", "build": {}},
    )
    return Vendor(little, project)


def _edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))


def test_the_device_alone_gives_the_vendors_tree(vendor: Vendor) -> None:
    little = vendor.little
    vendor.with_keys(little.keys)
    locked = vendor.lock()
    assert locked.code == 0, locked.err
    assert vendor.locked()["result_tree"] == little.vendor_tree
    assert "this lock cannot tell whether it was altered before" in locked.err
    vendor.with_keys(None)
    shutil.rmtree(little.root / "home")
    done = vendor.unpatch("--key-path", little.keys)
    assert (done.code, done.out.split()[1:]) == (0, [little.vendor_tree, "written"])
    assert NO_SIGNATURE not in done.err
    assert b"x = 1   \n" in (vendor.tree / "flagscale" / "vendor.py").read_bytes()
    assert files_with_mark(little.root / "home", vendor.project) == []
    again = vendor.unpatch("--key-path", little.keys)
    assert again.out.split()[1:] == [little.vendor_tree, "unchanged"]


def test_without_the_key_a_release_is_locked_checked_and_planned_but_not_unpatched(
    vendor: Vendor,
) -> None:
    vendor.with_keys(None)
    locked = vendor.lock()
    assert locked.code == 0
    assert "no tree is pinned; lock with the key to pin it" in locked.err
    assert vendor.locked()["result_tree"] is None
    assert vendor.run("check").code == 0
    assert vendor.run("plan", "--release", RELEASE).code == 0
    refused = vendor.unpatch()
    assert refused.code == ExitCode.SOURCE
    assert "no RSA private key was named" in refused.err
    assert not vendor.tree.exists()
    wrong = vendor.unpatch("--key-path", flagscale_key_folder(vendor.little.root / "wrong"))
    assert (wrong.code, "private_key.pem" in wrong.err) == (ExitCode.SOURCE, True)
    opened = vendor.unpatch("--key-path", vendor.little.keys)
    assert opened.code == 0
    assert NO_SIGNATURE in opened.err
    assert opened.out.split()[1] == vendor.little.vendor_tree


def test_locking_again_without_the_key_keeps_the_pinned_tree(vendor: Vendor) -> None:
    vendor.with_keys(vendor.little.keys)
    assert vendor.lock().code == 0
    before = vendor.lock_file.read_bytes()
    vendor.with_keys(None)
    again = vendor.lock()
    assert (again.code, "is pinned, and was not tried here" in again.err) == (0, True)
    assert vendor.lock_file.read_bytes() == before


def test_an_entry_is_not_sealed_as_if_it_were_the_projects(vendor: Vendor) -> None:
    keys = new_keys(vendor.little.root / "seal", "v")
    words = ("--release", RELEASE, "--patch-set", "bi-v150", "--recipient", keys.recipient)
    out = vendor.little.root / "x.bundle"
    refused = vendor.little.relforge(
        *("patch", "seal", *words, "--sign", keys.signing_key, "--out", out),
        *("--project", vendor.project),
    )
    assert refused.code == ExitCode.USAGE
    assert "lies in a git repository, not in this project" in refused.err
    assert not out.exists()


@pytest.mark.parametrize("place", [".", "/", "..", ".git"])
def test_no_folder_of_the_users_is_written_to(vendor: Vendor, place: str) -> None:
    vendor.with_keys(vendor.little.keys)
    assert vendor.lock().code == 0
    little = vendor.little
    here = sorted(Path.cwd().rglob("*"))
    refused = vendor.run("unpatch", "--device", "bi_V150", "--dir", place)
    assert refused.code == ExitCode.SOURCE
    assert "is not written there" in refused.err
    assert sorted(Path.cwd().rglob("*")) == here
    assert not (little.root / "bi_V150").exists()


def test_a_tree_that_the_maker_tells_has_to_come_out(vendor: Vendor) -> None:
    vendor.with_keys(None)
    vendor.name_patch_set(result_tree="1" * 40)
    assert vendor.lock().code == 0
    assert vendor.locked()["result_tree"] == "1" * 40
    wrong = vendor.unpatch("--key-path", vendor.little.keys)
    assert wrong.code == ExitCode.SOURCE
    assert "the patched tree is not the expected one" in wrong.err
    assert not vendor.tree.exists()
    vendor.with_keys(vendor.little.keys)
    assert vendor.lock().code == ExitCode.SOURCE
    vendor.name_patch_set(result_tree=vendor.little.vendor_tree)
    assert vendor.lock().code == 0


def test_the_file_is_the_one_that_the_manifest_pins(vendor: Vendor) -> None:
    vendor.with_keys(vendor.little.keys)
    vendor.name_patch_set(sha256="2" * 64)
    refused = vendor.lock()
    assert refused.code == ExitCode.SOURCE
    assert "is not the file that the manifest pins" in refused.err
    assert not vendor.lock_file.exists()
    vendor.name_patch_set()
    vendor.lock()
    ((_name, sha256),) = vendor.locked()["patches"]
    vendor.name_patch_set(sha256=sha256)
    assert vendor.lock().code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: {"path": "hardware/Nobody_X1/FlagScale"}, "the patch set is not there"),
        (lambda v: {"path": "flagscale"}, "has no patch"),
        (lambda v: {"repository": {"commit": v.little.vllm_base}}, "is not in the repository"),
        (lambda v: {"source": {"commit": v.entries}}, "made for another base"),
    ],
)
def test_a_manifest_that_names_the_wrong_entry_is_not_locked(
    vendor: Vendor, change: Callable[[Vendor], dict[str, Any]], message: str
) -> None:
    changes = change(vendor)
    if isinstance(source := changes.get("source"), dict):
        vendor.name_patch_set(source=source)
    else:
        vendor.name_patch_set(**changes)
    vendor.with_keys(vendor.little.keys)
    refused = vendor.lock()
    assert refused.code == ExitCode.SOURCE
    assert message in refused.err
    assert not vendor.lock_file.exists()


def test_an_entry_of_the_current_layout_says_what_it_is_made_for(vendor: Vendor) -> None:
    little = vendor.little
    vendor.with_keys(None)
    little.entry("BI_V150", "FlagScale", {"diff.patch": little.mailbox})
    little.entry("Other_X1", "FlagScale", {"diff.patch": little.mailbox})
    entries = little.fs.commit(message="current")
    little.fs.git("branch", "current", entries)
    repository = {"commit": entries}
    vendor.name_patch_set(path="hardware/Other_X1/FlagScale", repository=repository)
    refused = vendor.lock()
    assert (refused.code, "made for another device" in refused.err) == (ExitCode.SOURCE, True)
    vendor.name_patch_set(path="hardware/BI_V150/FlagScale", repository=repository)
    assert vendor.lock().code == 0
    assert vendor.locked()["result_tree"] == little.vendor_tree
    done = vendor.unpatch()
    assert (done.code, done.out.split()[1]) == (0, little.vendor_tree)


def test_a_repository_of_another_source_holds_the_patches_of_a_submodule(vendor: Vendor) -> None:
    little = vendor.little
    vendor.with_keys(None)
    little.entry("BI_V150", "vllm", {"vllm/core.py.patch": little.vllm_patch})
    entries = little.fs.commit(message="vllm")
    little.fs.git("branch", "current", entries)
    vendor.name_patch_set(
        source={"url": little.vllm.path.as_uri(), "commit": little.vllm_base},
        path="hardware/BI_V150/vllm",
        repository={"url": little.fs.path.as_uri(), "commit": entries},
    )
    assert vendor.lock().code == 0
    assert vendor.unpatch().code == 0
    assert (vendor.tree / "vllm" / "core.py").read_bytes() == b"a = 1\nb = 22\n"
