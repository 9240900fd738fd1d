"""The tools that run inside builds: what installers write is settled, whatever it was."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from relforge.manifest.project import builtin_root

TOOLS = builtin_root() / "dockerfiles" / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(folder: Path, *, url: str, stamp: int, reverse: bool = False) -> Path:
    """A package as an installer leaves it."""
    info = folder / "lib" / "site-packages" / "a-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: a\n")
    (info / "uv_cache.json").write_text(json.dumps({"timestamp": stamp}))
    (info / "direct_url.json").write_text(json.dumps({"url": url, "archive_info": {}}))
    rows = [
        [f"a-1.dist-info/{name}", "sha256=x", "1"]
        for name in ("METADATA", "direct_url.json", "uv_cache.json")
    ]
    rows += [['a/odd, "name".py', "sha256=y", "2"], ["a-1.dist-info/RECORD", "", ""]]
    with (info / "RECORD").open("w", newline="") as file:
        csv.writer(file).writerows(reversed(rows) if reverse else rows)
    return info


def test_installations_at_two_times_become_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = installed(tmp_path / "one", url="file:///wheel/a.whl", stamp=1)
    other = installed(tmp_path / "two", url="file:///tmp/x/a.whl", stamp=2, reverse=True)
    monkeypatch.setattr("sys.argv", ["installed.py", str(tmp_path / "one"), str(tmp_path / "two")])
    tool("installed").main()
    left = [{path.name: path.read_bytes() for path in info.iterdir()} for info in (one, other)]
    assert left[0] == left[1]
    assert sorted(left[0]) == ["METADATA", "RECORD"]
    with (one / "RECORD").open(newline="") as file:
        names = [row[0] for row in csv.reader(file)]
    assert names == ["a-1.dist-info/METADATA", "a-1.dist-info/RECORD", 'a/odd, "name".py']


def test_where_a_package_came_from_an_address_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://example.org/a.git"
    info = installed(tmp_path, url=url, stamp=1)
    monkeypatch.setattr("sys.argv", ["installed.py", str(tmp_path)])
    tool("installed").main()
    assert json.loads((info / "direct_url.json").read_text())["url"] == url
    assert "direct_url.json" in (info / "RECORD").read_text()
    assert not (info / "uv_cache.json").exists()


def test_damaged_notes_of_installers_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = installed(tmp_path, url="file:///x", stamp=1)
    (info / "direct_url.json").write_text("[")
    (info / "RECORD").unlink()
    monkeypatch.setattr("sys.argv", ["installed.py", str(tmp_path)])
    tool("installed").main()
    assert sorted(path.name for path in info.iterdir()) == ["METADATA", "direct_url.json"]
