"""Fetching by hash: from any place, verified, once, and never waiting for a dead one."""

from __future__ import annotations

import base64
import os
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from relforge import redact
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.site import PythonSite, Site
from relforge.manifest.source import ArchiveSource, WheelSource
from relforge.sources import filestore, places
from relforge.sources.fetch import PackageFile, fetch_package
from relforge.sources.places import parse_pip_config
from tests.support.sources import Answer, Index, black_hole, closed_port, sdist, wheel

FAST = Site(python=PythonSite(index_timeout_s=1.0))
DATA = sdist("tiny-1.0", {"f": b"1"})


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    made = Index()
    with made.server:
        use(monkeypatch, PIP_INDEX_URL=made.url)
        yield made


def use(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """pip's whole configuration, as the tests want it."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(places, "_unreachable", {})
    for name, value in {"PIP_CONFIG_FILE": os.devnull, **settings}.items():
        monkeypatch.setenv(name, value)


def get(files: Path, sha256: str, *, site: Site = FAST, lines: list[str] | None = None) -> Path:
    spec = ArchiveSource(kind="archive", package="tiny", version="1.0", sha256=sha256)
    seen = lines if lines is not None else []
    return fetch_package(spec, site=site, files=files, ctx_line=seen.append)


def test_a_file_is_fetched_once(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    index.add("tiny", "tiny-1.0-py3-none-any.whl", wheel("tiny", "1.0"))
    path = get(tmp_path, sha)
    assert path == tmp_path / sha / "tiny-1.0.tar.gz"
    assert path.read_bytes() == DATA
    assert get(tmp_path, sha) == path
    assert index.downloads() == ["/files/tiny/tiny-1.0.tar.gz"]


def test_a_stored_file_that_was_altered_is_fetched_again(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    get(tmp_path, sha).write_bytes(b"other")
    assert get(tmp_path, sha).read_bytes() == DATA
    assert len(index.downloads()) == 2


def test_an_altered_archive_is_refused(index: Index, tmp_path: Path) -> None:
    index.hashes = False
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    index.add("tiny", "tiny-1.0.tar.gz", DATA[:-1] + b"\1")
    with pytest.raises(RelforgeError, match="hash mismatch") as caught:
        get(tmp_path, sha)
    error = caught.value
    assert error.code is ExitCode.SOURCE
    assert f"expected sha256 {sha}, got " in str(error.why)
    assert "tiny-1.0.tar.gz" in error.what
    assert error.hint
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_another_hash_in_the_index_is_told_without_a_download(index: Index, tmp_path: Path) -> None:
    got = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    with pytest.raises(RelforgeError, match="no file of it has the pinned hash") as caught:
        get(tmp_path, "a" * 64)
    assert got in str(caught.value.why)
    assert index.downloads() == []


def test_a_good_place_is_used_when_another_one_altered_the_file(
    index: Index, tmp_path: Path
) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    links = tmp_path / "my links"
    links.mkdir()
    (links / "tiny-1.0.tar.gz").write_bytes(b"rubbish")
    site = Site(python=PythonSite(find_links=(str(links),)))
    lines: list[str] = []
    assert get(tmp_path / "files", sha, site=site, lines=lines).read_bytes() == DATA
    assert any("not the pinned bytes" in line for line in lines)


def test_a_local_version_is_another_file(index: Index, tmp_path: Path) -> None:
    index.hashes = False
    plain = index.add("tiny", "tiny-1.0-py3-none-any.whl", wheel("tiny", "1.0"))
    local = index.add("tiny", "tiny-1.0+cpu-py3-none-any.whl", wheel("tiny", "1.0+cpu"))
    for version, sha in (("1.0", plain), ("1.0+cpu", local)):
        spec = WheelSource(kind="wheel", package="tiny", version=version, sha256=sha)
        path = fetch_package(spec, site=FAST, files=tmp_path, ctx_line=print)
        assert path.name == f"tiny-{version}-py3-none-any.whl"
    assert len(index.downloads()) == 2


def test_not_found_says_what_was_searched_without_the_password(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_secrets", set())
    secret = index.url.replace("://", "://user:hunter2secret@")
    use(monkeypatch, PIP_INDEX_URL=secret, PIP_FIND_LINKS="/nowhere/at-all")
    with pytest.raises(RelforgeError, match=r"tiny 1\.0 was not found") as caught:
        get(tmp_path, "a" * 64)
    text = str(caught.value)
    assert index.url in text
    assert "/nowhere/at-all: does not exist" in text
    assert "hunter2secret" not in text
    assert redact.text("x hunter2secret x") == "x [redacted] x"


def test_a_dead_index_costs_seconds_and_the_next_place_is_used(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    with black_hole() as hole:
        dead = f"http://127.0.0.1:{hole}/simple"
        gone = f"http://127.0.0.1:{closed_port()}/simple"
        use(monkeypatch, PIP_INDEX_URL=dead, PIP_EXTRA_INDEX_URL=f"{gone} {index.url}")
        started = time.monotonic()
        assert get(tmp_path, sha).read_bytes() == DATA
        # One second for the hole; the rest is importing, and reading pip's configuration.
        assert time.monotonic() - started < 8


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as hole:
        use(monkeypatch, PIP_INDEX_URL=f"http://127.0.0.1:{hole}/simple")
        places.pip_config()
        started = time.monotonic()
        with pytest.raises(RelforgeError, match="was not found") as caught:
            get(tmp_path, "a" * 64)
        assert 0.9 < time.monotonic() - started < 6
        assert "127.0.0.1" in str(caught.value.why)
        again = time.monotonic()
        with pytest.raises(RelforgeError):
            get(tmp_path, "b" * 64)
        assert time.monotonic() - again < 0.8  # it is remembered for a while


def test_a_server_that_answers_errors_is_asked_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.sources import Server

    with Server(lambda _: (503, "text/html", b"busy")) as busy:
        use(monkeypatch, PIP_INDEX_URL=f"{busy.url}/simple")
        with pytest.raises(RelforgeError, match="was not found"):
            get(tmp_path, "a" * 64)
        assert 2 <= len(busy.asked) <= 10


def test_plain_http_elsewhere_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, PIP_INDEX_URL="http://index.invalid/simple")
    with pytest.raises(RelforgeError) as caught:
        get(tmp_path, "a" * 64)
    assert "trusted hosts" in str(caught.value.why)


def test_cancelling_keeps_nothing(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    token = CancelToken()
    token.cancel("enough")
    with pytest.raises(Cancelled):
        fetch_package(
            PackageFile("tiny", "1.0", sha),
            site=FAST,
            files=tmp_path,
            ctx_line=print,
            cancel=token,
        )
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filestore, "_STAMPED_BYTES", 10)
    data = b"x" * 100
    import hashlib

    sha = hashlib.sha256(data).hexdigest()
    path = filestore.add(tmp_path, sha, "big.whl", [data])
    hashed: list[Path] = []
    real = filestore.hash_of

    def watched(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(filestore, "hash_of", watched)
    assert filestore.lookup(tmp_path, sha) == path
    assert hashed == []
    os.utime(path, (5, 5))
    assert filestore.lookup(tmp_path, sha) == path
    assert hashed == [path]
    path.write_bytes(b"y" * 100)
    assert filestore.lookup(tmp_path, sha) is None


def test_threads_store_the_same_file(tmp_path: Path) -> None:
    import hashlib

    sha = hashlib.sha256(DATA).hexdigest()
    threads = [
        threading.Thread(target=filestore.add, args=(tmp_path, sha, "a.tar.gz", [DATA]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert filestore.lookup(tmp_path, sha) == tmp_path / sha / "a.tar.gz"
    assert list((tmp_path / ".incoming").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", ".x", "", "a/b"])
def test_unsafe_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RelforgeError, match="unsafe name"):
        filestore.add(tmp_path, "0" * 64, name, [b""])


def test_pips_listing_is_read_with_its_precedence() -> None:
    config = parse_pip_config(
        "global.index-url='https://a.invalid/simple'\n"
        "global.extra-index-url='\\nhttps://b.invalid/x\\nhttps://c.invalid/y'\n"
        "global.find-links='/one'\n"
        "install.find-links='/two /three'\n"
        "download.find-links='/never'\n"
        ":env:.index-url='https://d.invalid/simple'\n"
        ":env:.no-index='true'\n"
        ":env:.cert='/ca.pem'\n"
        "rubbish\n"
    )
    assert config.index_url == "https://d.invalid/simple"
    assert config.extra_index_urls == ("https://b.invalid/x", "https://c.invalid/y")
    assert config.find_links == ("/two", "/three")
    assert config.no_index
    assert config.cert == "/ca.pem"


def test_pips_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nfind-links =\n    /one\n    /two\nno-index = 1\n")
    use(monkeypatch, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    config = places.pip_config()
    assert config.find_links == ("/one", "/two")
    assert places.Places.of(Site()).index_urls == ()


@pytest.mark.parametrize("way", ["netrc", "pip.conf"])
def test_a_login_for_an_index_of_the_site_where_its_refusal_sends_it(
    way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is told to whoever writes a login into ``torch_cpu_index`` works."""
    wanted = "Basic " + base64.b64encode(b"me:index-word").decode()

    class Closed(Index):
        def _answer(self, request: BaseHTTPRequestHandler) -> Answer:
            if request.headers.get("Authorization") != wanted:
                return 401, "text/plain", b"who are you"
            return super()._answer(request)

    made = Closed()
    sha = made.add("tiny", "tiny-1.0.tar.gz", DATA)
    with made.server:
        use(monkeypatch, PIP_NO_INDEX="1")
        site = Site(python=PythonSite(index_timeout_s=2.0, torch_cpu_index=made.url))
        with pytest.raises(RelforgeError, match="was not found") as caught:
            get(tmp_path / "files", sha, site=site)
        assert "HTTP 401" in str(caught.value.why)
        netrc, config = tmp_path / "netrc", tmp_path / "pip.conf"
        if way == "netrc":
            netrc.write_text("machine 127.0.0.1 login me password index-word\n")
            netrc.chmod(0o600)
            monkeypatch.setenv("NETRC", str(netrc))
        else:
            there = made.url.replace("//", "//me:index-word@")
            config.write_text(f"[global]\nindex-url = {there}\n")
            use(monkeypatch, PIP_CONFIG_FILE=str(config))
            site = FAST
        lines: list[str] = []
        assert get(tmp_path / "files", sha, site=site, lines=lines).read_bytes() == DATA
        assert "index-word" not in "\n".join(lines)
