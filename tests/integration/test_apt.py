"""Which mirror apt uses in a build: this host's real apt reads the sources that a test writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relforge.engine.apt import System, bootstrap_mirror, build_sources, host_sources
from relforge.manifest.site import Site

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt here")
BOOKWORM = System(distribution="debian", suite="bookworm")
NOBLE = System(distribution="ubuntu", suite="noble")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for apt's sources, in the place of this host's."""
    for name in ("etc/sources.list.d", "etc/preferences.d", "etc/apt.conf.d", "state", "cache"):
        (tmp_path / name).mkdir(parents=True)
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::Etc "{tmp_path}/etc";\nDir::State "{tmp_path}/state";\n'
        f'Dir::Cache "{tmp_path}/cache";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    return tmp_path / "etc"


def test_repositories_of_others_with_a_suites_name_are_no_mirrors(sources: Path) -> None:
    """A host with Docker's repository has that of Debian for its images nevertheless."""
    (sources / "sources.list").write_text(
        "deb http://docker.example/linux/debian bookworm stable\n"
        "deb http://mirror.example/debian bookworm main\n"
        "deb http://other.example/tools bookworm main\n"
        "deb http://mirror.example/debian-security bookworm-security main contrib\n"
    )
    assert host_sources() == {
        "bookworm": "http://mirror.example/debian",
        "bookworm-security": "http://mirror.example/debian-security",
    }
    assert bootstrap_mirror("bookworm", Site()) == "http://mirror.example/debian"
    assert build_sources(BOOKWORM, Site()) == (
        "deb http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
    )
    assert bootstrap_mirror("trixie", Site()) is None
    assert build_sources(NOBLE, Site()) is None


def test_a_sites_mirror_comes_first_each_for_its_distribution(sources: Path) -> None:
    (sources / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    site = Site(apt_mirror="https://d.example/debian/", ubuntu_mirror="https://u.example/ubuntu")
    assert build_sources(BOOKWORM, site) == (
        "deb https://d.example/debian bookworm main\n"
        "deb https://d.example/debian bookworm-updates main\n"
        "deb https://d.example/debian-security bookworm-security main\n"
    )
    assert build_sources(NOBLE, site) == (
        "deb https://u.example/ubuntu noble main universe\n"
        "deb https://u.example/ubuntu noble-updates main universe\n"
        "deb https://u.example/ubuntu noble-security main universe\n"
    )
    # A mirror of Debian is none of Ubuntu, and of nothing else.
    assert build_sources(NOBLE, Site(apt_mirror="https://d.example/debian")) is None
    assert build_sources(System(distribution="rhel", suite="9"), site) is None


def test_a_mirror_with_a_login_is_none_of_ours(sources: Path) -> None:
    """debootstrap would have the login in its argument list, and the image in its sources."""
    (sources / "sources.list").write_text(
        "deb http://me:hidden-word@mirror.example/debian bookworm main\n"
        "deb http://open.example/debian bookworm main\n"
    )
    assert host_sources() == {"bookworm": "http://open.example/debian"}
