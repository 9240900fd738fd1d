"""One door for packages: import once, from two threads, and again after damage."""

from __future__ import annotations

import json
import os
import pickle
import threading
from pathlib import Path

import pytest

from relforge.errors import RelforgeError
from relforge.manifest.site import Site
from relforge.manifest.source import ArchiveSource, WheelSource
from relforge.sources import places
from relforge.sources.api import ImportedSource, import_source, store_of
from relforge.sources.wheel import repack
from tests.support.sources import Index, sdist, wheel


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(places, "_unreachable", {})
    made = Index()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    with made.server:
        yield made


def spec_of(sha: str) -> ArchiveSource:
    return ArchiveSource(kind="archive", package="tiny", version="1.0", sha256=sha)


def test_an_archive_becomes_a_tree_once(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", sdist("tiny-1.0", {"f": b"1\r\n"}))
    lines: list[str] = []
    first = import_source("one", spec_of(sha), home=tmp_path, site=Site(), ctx_line=lines.append)
    assert lines == ["fetching tiny-1.0.tar.gz", "importing tiny-1.0.tar.gz"]
    asked = len(index.server.asked)
    again = import_source("two", spec_of(sha), home=tmp_path, site=Site(), ctx_line=lines.append)
    assert again == first.model_copy(update={"name": "two"})
    assert len(lines) == 2
    assert len(index.server.asked) == asked
    assert first.file_name == "tiny-1.0.tar.gz"
    assert (first.created_epoch, first.prebuilt) == (1_700_000_000, False)
    assert store_of(tmp_path).read_file(first.tree, "f") == b"1\r\n"
    assert pickle.loads(pickle.dumps(first)) == first
    assert "127.0.0.1" not in first.model_dump_json()


def test_a_wheel_is_prebuilt_and_packs_again(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0-py3-none-any.whl", wheel("tiny", "1.0"))
    spec = WheelSource(kind="wheel", package="tiny", version="1.0", sha256=sha)
    source = import_source("w", spec, home=tmp_path, site=Site(), ctx_line=print)
    assert source.prebuilt
    store_of(tmp_path).checkout(source.tree, tmp_path / "t", epoch=source.created_epoch or 0)
    made = repack(tmp_path / "t", tmp_path / "o", source.created_epoch or 0)
    assert made.name == source.file_name


def test_two_threads_import_the_same_source(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", sdist("tiny-1.0", {"f": b"1"}))
    found: list[ImportedSource] = []

    def work() -> None:
        found.append(
            import_source("s", spec_of(sha), home=tmp_path, site=Site(), ctx_line=lambda _: None)
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(index.downloads()) == 1


def test_a_damaged_index_file_or_store_is_made_good(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", sdist("tiny-1.0", {"f": b"1"}))
    first = import_source("s", spec_of(sha), home=tmp_path, site=Site(), ctx_line=print)
    (entry,) = (tmp_path / "store" / "sources").iterdir()
    for text in ("{", "{}", json.dumps({**json.loads(entry.read_text()), "tree": "0" * 40})):
        entry.write_text(text)
        assert import_source("s", spec_of(sha), home=tmp_path, site=Site(), ctx_line=print) == first
    assert len(index.downloads()) == 1


def test_an_evil_archive_leaves_no_record(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", sdist("tiny-1.0", {"f": b"1", "../../x": b"2"}))
    with pytest.raises(RelforgeError, match="leaves its folder"):
        import_source("s", spec_of(sha), home=tmp_path, site=Site(), ctx_line=print)
    assert not (tmp_path / "store" / "sources").exists()
    assert store_of(tmp_path).text("for-each-ref") == ""
