"""Manifests are found upwards, aliases work, and unknown names get the nearest known one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relforge.errors import RelforgeError
from relforge.manifest.project import Project, builtin_root, find_project
from relforge.manifest.site_file import find_site_file, load_site
from tests.unit.test_manifest_loader import DEVICE


def make_project(root: Path, device: str = DEVICE) -> Project:
    for folder in ("devices", "models", "releases"):
        (root / "manifests" / folder).mkdir(parents=True)
    (root / "manifests" / "devices" / "toy_x1.yaml").write_text(device)
    return find_project(root)


def test_a_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    make_project(tmp_path)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below).root == tmp_path


def test_outside_any_project_the_builtin_one_is_used(tmp_path: Path) -> None:
    assert find_project(tmp_path).roots == (builtin_root(),)


def test_a_project_sees_the_builtin_devices_behind_its_own(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert {"toy_x1", "cpu_x86"} <= set(project.devices)


@pytest.mark.parametrize("name", ["cpu_x86", "CPU_X86", "CPU-X86", "cpu-x86"])
def test_every_spelling_of_a_device_is_the_same_device(name: str) -> None:
    assert find_project(builtin_root()).device(name).name == "cpu_x86"


def test_an_unknown_device_gets_the_nearest_known_one() -> None:
    with pytest.raises(RelforgeError) as caught:
        find_project(builtin_root()).device("cpu_x68")
    assert caught.value.hint == "did you mean 'cpu_x86'?"
    assert caught.value.code == 2


def test_two_devices_cannot_share_an_alias(tmp_path: Path) -> None:
    project = make_project(tmp_path, DEVICE + "aliases: [CPU-X86]\n")
    with pytest.raises(RelforgeError, match="share the name"):
        _ = project.devices


def test_a_file_is_named_as_what_it_describes(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    folder = tmp_path / "manifests" / "devices"
    shutil.move(folder / "toy_x1.yaml", folder / "toy_x2.yaml")
    with pytest.raises(RelforgeError, match=r"toy_x2\.yaml describes 'toy_x1'"):
        _ = find_project(project.root).devices


def test_site_paths_are_relative_to_the_site_file(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "site.yaml"
    file.parent.mkdir()
    file.write_text("home: ../home\nidentities: [keys/me.txt]\npatch_sets: {one: /b/one.bundle}\n")
    site = load_site(file)
    assert site.home == tmp_path / "home"
    assert site.identities == (file.parent / "keys/me.txt",)
    assert site.patch_sets["one"] == Path("/b/one.bundle")


def test_a_named_site_file_that_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = find_project(tmp_path)
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "none.yaml"))
    with pytest.raises(RelforgeError, match="does not exist"):
        find_site_file(project)
