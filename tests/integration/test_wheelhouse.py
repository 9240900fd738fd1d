"""The dependency lock: pip resolves, relforge fetches by hash into one folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.lock import LockedWheel, LockedWheels
from relforge.manifest.build import PythonPackages
from relforge.manifest.site import Mirror, PythonSite, Site
from relforge.sources import places
from relforge.sources.wheelhouse import (
    download,
    platforms,
    requirements_text,
    resolve,
)
from tests.support.sources import Index, black_hole, closed_port, wheel

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
FAST = Site(python=PythonSite(index_timeout_s=1.0))


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(places, "_unreachable", {})
    made = Index()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    made.add(
        "app",
        "app-1-py3-none-any.whl",
        wheel(
            "app",
            "1",
            requires=(
                "torchy>=2",
                "heavy; python_version >= '3'",
                "old; python_version < '3'",
                "plugin[fast]",
                "Odd.Name",
            ),
        ),
    )
    made.add("torchy", "torchy-2-py3-none-any.whl", wheel("torchy", "2"))
    made.add("heavy", "heavy-1-py3-none-any.whl", wheel("heavy", "1", requires=("below",)))
    made.add("below", "below-1-py3-none-any.whl", wheel("below", "1"))
    made.add(
        "plugin",
        "plugin-1-py3-none-any.whl",
        wheel(
            "plugin",
            "1",
            requires=('speed; extra == "fast"', 'no; extra == "slow"'),
            extras=("fast", "slow"),
        ),
    )
    made.add("speed", "speed-1-py3-none-any.whl", wheel("speed", "1"))
    made.add("odd-name", "Odd.Name-1-py3-none-any.whl", wheel("Odd.Name", "1"))
    with made.server:
        yield made  # fmt: skip


def names(locked: LockedWheels) -> list[str]:
    return [f"{w.name} {w.version}" for w in locked.wheels]


def lock(packages: PythonPackages, site: Site = FAST, **more: object) -> LockedWheels:
    return resolve(packages, python_version=HERE, site=site, ctx_line=print, **more)  # type: ignore[arg-type]


def test_resolving_honours_markers_extras_constraints_and_excludes(
    index: Index, tmp_path: Path
) -> None:
    links = tmp_path / "a folder"
    links.mkdir()
    (links / "torchy-2+cpu-py3-none-any.whl").write_bytes(wheel("torchy", "2+cpu"))
    site = Site(python=PythonSite(index_timeout_s=1.0, find_links=(str(links),)))
    packages = PythonPackages(
        requirements=("app",), constraints=("torchy==2+cpu",), exclude=("heavy",)
    )
    locked = lock(packages, site)
    assert names(locked) == ["app 1", "odd-name 1", "plugin 1", "speed 1", "torchy 2+cpu"]
    torchy = locked.wheels[-1]
    assert torchy.file_name == "torchy-2+cpu-py3-none-any.whl"
    folder = download(locked, home=tmp_path / "home", site=site, ctx_line=print)
    assert (folder / torchy.file_name).read_bytes() == wheel("torchy", "2+cpu")


def test_callers_add_requirements_and_build_ones_are_apart(index: Index) -> None:
    packages = PythonPackages(requirements=("torchy",), build_requirements=("below",))
    assert names(lock(packages, extra_requirements=("speed",))) == ["speed 1", "torchy 2"]
    assert names(lock(packages, build=True)) == ["below 1"]
    assert lock(PythonPackages()).wheels == ()


def test_dead_places_cost_seconds(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as hole:
        site = Site(
            python=PythonSite(
                index_timeout_s=1.0, torch_cpu_index=f"http://127.0.0.1:{hole}/whl/cpu"
            )
        )
        gone = f"http://127.0.0.1:{closed_port()}/simple"
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", gone)
        monkeypatch.setenv("PIP_FIND_LINKS", f"{gone}/links.html")
        started = time.monotonic()
        assert names(lock(PythonPackages(requirements=("below",)), site)) == ["below 1"]
        assert time.monotonic() - started < 15


def test_a_device_manifests_index_is_asked_at_the_sites_mirror(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock names the manifest's index: with another mirror it is the same lock."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed_port()}/simple")
    named = "https://vendor.invalid/repository/pypi/simple"
    python = PythonSite(
        index_timeout_s=1.0,
        index_mirrors=(
            Mirror(prefix="https://vendor.invalid/", to=f"http://127.0.0.1:{closed_port()}/"),
            Mirror(prefix="https://vendor.invalid/repository/pypi/", to=f"{index.server.url}/"),
        ),
    )
    site = Site(python=python)
    locked = lock(PythonPackages(requirements=("heavy",)), site, index=named)
    assert (locked.index, names(locked)) == (named, ["below 1", "heavy 1"])
    folder = download(locked, home=tmp_path, site=site, ctx_line=print)
    assert (folder / "heavy-1-py3-none-any.whl").is_file()


def test_no_solution_says_why(index: Index) -> None:
    with pytest.raises(RelforgeError, match="cannot be resolved") as caught:
        lock(PythonPackages(requirements=("app", "torchy<2")))
    assert caught.value.code is ExitCode.SOURCE
    assert "torchy" in str(caught.value.why)
    with pytest.raises(RelforgeError, match="not a Python requirement") as wrong:
        lock(PythonPackages(requirements=("a b c",)))
    assert wrong.value.code is ExitCode.USAGE


def test_another_python_or_machine_is_refused(index: Index) -> None:
    packages = PythonPackages(requirements=("below",))
    with pytest.raises(RelforgeError, match=r"no Python 3\.99 with pip") as caught:
        resolve(packages, python_version="3.99", site=FAST, ctx_line=print)
    assert caught.value.code is ExitCode.ENVIRONMENT
    with pytest.raises(RelforgeError, match="on such a machine"):
        lock(packages, machine="sparc64")


def test_the_folder_installs_with_hashes_alone(index: Index, tmp_path: Path) -> None:
    locked = lock(PythonPackages(requirements=("app",), exclude=("torchy",)))
    lines: list[str] = []
    folder = download(locked, home=tmp_path / "home", site=FAST, ctx_line=lines.append, jobs=2)
    assert (folder / "requirements.txt").read_text() == requirements_text(locked)
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
         "--disable-pip-version-check", "--require-hashes", "--find-links", str(folder),
         "--target", str(target), "-r", str(folder / "requirements.txt")],
        check=True,
    )  # fmt: skip
    assert (target / "below" / "__init__.py").is_file()

    asked, told = len(index.server.asked), len(lines)
    assert download(locked, home=tmp_path / "home", site=FAST, ctx_line=lines.append) == folder
    assert (len(index.server.asked), len(lines)) == (asked, told)


def test_what_is_damaged_is_fetched_again_and_the_rest_is_not(index: Index, tmp_path: Path) -> None:
    locked = lock(PythonPackages(requirements=("heavy",)))
    folder = download(locked, home=tmp_path, site=FAST, ctx_line=print)
    count = len(index.downloads())
    bad = folder / "below-1-py3-none-any.whl"
    bad.write_bytes(b"rubbish")
    assert download(locked, home=tmp_path, site=FAST, ctx_line=print) == folder
    assert bad.read_bytes() == wheel("below", "1")
    assert len(index.downloads()) == count + 1
    (folder / "heavy-1-py3-none-any.whl").unlink()
    download(locked, home=tmp_path, site=FAST, ctx_line=print)
    assert (folder / "heavy-1-py3-none-any.whl").is_file()
    assert len(index.downloads()) == count + 1


def test_every_missing_wheel_is_named(index: Index, tmp_path: Path) -> None:
    locked = lock(PythonPackages(requirements=("heavy",)))
    wrong = tuple(
        LockedWheel(name=n, version="1", file_name=f"{n}-1-py3-none-any.whl", sha256="e" * 63 + c)
        for n, c in (("heavy", "1"), ("nowhere", "2"))
    )
    bad = locked.model_copy(update={"wheels": (locked.wheels[0], *wrong)})
    with pytest.raises(RelforgeError, match="2 of 3 wheels") as caught:
        download(bad, home=tmp_path, site=FAST, ctx_line=print)
    assert "heavy 1" in str(caught.value.why)
    assert "nowhere 1" in str(caught.value.why)
    assert list((tmp_path / "store").glob("wheelhouses/*")) == []


def test_platform_tags_go_from_the_newest_glibc_down() -> None:
    tags = platforms("x86_64", 36)
    assert tags[0] == "manylinux_2_36_x86_64"
    assert tags[-1] == "linux_x86_64"
    assert tags.index("manylinux2014_x86_64") == tags.index("manylinux_2_17_x86_64") + 1
    assert "manylinux_2_37_x86_64" not in tags
