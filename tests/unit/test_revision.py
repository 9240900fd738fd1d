"""The record names the commit of the project, and never somebody else's repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.manifest.revision import revision_of
from tests.support.sources import git


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "repository" / "team"
    (root / "manifests").mkdir(parents=True)
    (root / "manifests" / "a.yaml").write_text("kind: site\n")
    git("init", "-q", cwd=tmp_path / "repository")
    git("add", ".", cwd=tmp_path / "repository")
    git("commit", "-q", "-m", "one", cwd=tmp_path / "repository")
    return root


def test_a_clean_checkout_has_its_commit(project: Path) -> None:
    found = revision_of(project)
    assert found is not None
    assert found.commit == git("rev-parse", "HEAD", cwd=project).strip()
    assert not found.uncommitted_changes


@pytest.mark.parametrize("name", ["manifests/a.yaml", "manifests/new.yaml"])
def test_edited_and_new_files_are_uncommitted_changes(project: Path, name: str) -> None:
    (project / name).write_text("kind: model\n")
    found = revision_of(project)
    assert found is not None
    assert found.uncommitted_changes


def test_changes_beside_the_project_do_not_count(project: Path) -> None:
    (project.parent / "other.txt").write_text("x")
    found = revision_of(project)
    assert found is not None
    assert not found.uncommitted_changes


def test_a_folder_in_a_strangers_repository_has_no_revision(project: Path) -> None:
    inside = project.parent / "venv" / "relforge"
    (inside / "manifests").mkdir(parents=True)
    (inside / "manifests" / "a.yaml").write_text("kind: site\n")
    assert revision_of(inside) is None


def test_without_a_repository_or_a_commit_there_is_none(tmp_path: Path) -> None:
    assert revision_of(tmp_path) is None
    git("init", "-q", cwd=tmp_path)
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "a.yaml").write_text("")
    git("add", ".", cwd=tmp_path)
    assert revision_of(tmp_path) is None
