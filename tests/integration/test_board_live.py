"""``relforge board --serve``: a real run is followed in a real browser; nothing else is served."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from relforge.events import (
    ReleaseFinished,
    RunFinished,
    RunStarted,
    StageFinished,
    StageLine,
    StageStarted,
    StageWaiting,
)
from relforge.evidence.run_folder import RunFolder
from relforge.evidence.runs import ReleaseRun, Run, StageEntry
from tests.support.board_pages import open_page, page_of, wait_until
from tests.support.boards import (
    SCENE_REAL,
    SCENE_RECORDED,
    BoardScene,
    make_scene,
    put_record,
)
from tests.support.pages import browser, keep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

RELEASE = "model-0-chip_5"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> BoardScene:
    return make_scene(tmp_path_factory.mktemp("scene") / "place")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@contextmanager
def served(scene: BoardScene) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command itself, and the address that it says."""
    site = scene.root / "site.yaml"
    signing = scene.site.publish.signing
    assert signing is not None
    publish = {"signing": {"key": str(signing.key)}}
    site.write_text(json.dumps({"kind": "site", "home": "home", "publish": publish}))
    started = subprocess.Popen(
        [sys.executable, "-c", "from relforge.cli import main; main()", "board", "--serve",
         "127.0.0.1:0", "--site", str(site)],
        cwd=scene.root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert started.stderr is not None
    line = started.stderr.readline()
    try:
        assert line.startswith("serving http://127.0.0.1:"), line
        yield line.split()[1], started
    finally:
        started.kill()
        started.wait()
        started.stderr.close()
        assert started.stdout is not None
        started.stdout.close()


@pytest.fixture(scope="module")
def address(scene: BoardScene) -> Iterator[str]:
    with served(scene) as (found, _):
        yield found


class Following:
    """A run that really writes its folder, step by step."""

    def __init__(self, home: Path, run_id: str, release: str = RELEASE) -> None:
        self.folder = RunFolder(home, run_id)
        self.release = release
        self.entries: list[StageEntry] = []
        self.run = Run(
            id=run_id, command=f"relforge release --release {release}", started_s=time.time(),
            releases=(ReleaseRun(release=release),),
        )  # fmt: skip
        self.folder.write(self.run)
        self.folder.event(
            RunStarted(
                run=run_id, command=self.run.command, releases=(release,), attempt=1,
                time_s=time.time(),
            )
        )  # fmt: skip

    def begin(self, stage: str) -> None:
        self.folder.event(StageStarted(release=self.release, stage=stage, time_s=time.time()))

    def line(self, stage: str, text: str) -> None:
        event = StageLine(release=self.release, stage=stage, text=text, time_s=time.time())
        self.folder.event(event)

    def end(self, stage: str, *, failed: bool = False) -> None:
        entry = StageEntry(
            name=stage, status="failed" if failed else "ran", seconds=1.5,
            verdict="fail" if failed else None, detail="two trees",
        )  # fmt: skip
        self.entries.append(entry)
        self.folder.event(
            StageFinished(
                release=self.release, stage=stage, status=entry.status, verdict=entry.verdict,
                detail=entry.detail, seconds=1.5, time_s=time.time(),
            )
        )  # fmt: skip

    def fail(self) -> None:
        """As the runner ends a run whose one release failed."""
        done = ReleaseFinished(
            release=self.release, state="failed", exit_code=6, error="smoke: fail\nwhy: no answer",
            next=f"relforge release --resume {self.run.id}", seconds=3.0, time_s=time.time(),
        )  # fmt: skip
        self.folder.event(done)
        self.folder.event(RunFinished(state="failed", exit_code=6, time_s=time.time()))
        entry = ReleaseRun(
            release=self.release, state="failed", exit_code=6, error=done.error, next=done.next,
            seconds=3.0, stages=tuple(self.entries),
        )  # fmt: skip
        ended = {"state": "failed", "exit_code": 6, "ended_s": time.time(), "releases": (entry,)}
        self.folder.write(self.run.model_copy(update=ended))
        self.folder.close()


def cell(release: str) -> str:
    return f"document.querySelector('#matrix a[data-release=\"{release}\"]').textContent"


def test_a_run_is_followed_from_its_first_stage_to_its_end(
    chromium: Browser, address: str, scene: BoardScene
) -> None:
    with page_of(chromium) as page:
        open_page(page, address)
        live = "document.getElementById('live').textContent"
        wait_until(page, f"{live}.includes('Following; nothing runs now')")
        assert "not-run" in page.evaluate(cell(RELEASE))
        run = Following(scene.root / "home", "20261201T000000Z-00000a")
        run.begin("sources")
        wait_until(page, f"{live}.includes('{RELEASE}') && {live}.includes('sources')")
        wait_until(page, f"{cell(RELEASE)}.includes('running: sources')")
        keep(page.screenshot(full_page=True), "board-live-matrix")

        page.evaluate(f"location.hash = '#/release/{RELEASE}'")
        wait_until(page, "document.querySelector('.now') !== null")
        run.line("sources", "fetching <b>main</b>")
        wait_until(page, "document.querySelector('.now pre')?.textContent.includes('<b>main</b>')")
        run.end("sources")
        run.folder.event(
            StageWaiting(release=RELEASE, stage="build", why="the engine", time_s=time.time())
        )
        wait_until(page, f"{live}.includes('the engine')")
        run.begin("smoke")
        now = "document.querySelector('.now').textContent"
        wait_until(page, f"{now}.includes('two trees') && {now}.includes('smoke')")
        assert "running: smoke" in page.locator(".badges").inner_text()
        keep(page.screenshot(full_page=True), "board-live-release")
        run.end("smoke", failed=True)
        run.fail()
        wait_until(page, "document.querySelector('.why.failing') !== null")
        why = page.locator(".why").inner_text()
        assert "failed at smoke" in why
        assert "relforge release --resume 20261201T000000Z-00000a" in why
        wait_until(page, "document.querySelectorAll('tr[data-run]').length === 1")
        wait_until(page, "document.querySelector('.now') === null")
        page.evaluate("location.hash = '#/'")
        wait_until(page, f"{cell(RELEASE)}.includes('failing')")
        wait_until(page, f"{live}.includes('nothing runs now')")


def test_a_page_that_is_opened_later_knows_the_stage(
    chromium: Browser, address: str, scene: BoardScene
) -> None:
    other = "model-0-chip_6"
    run = Following(scene.root / "home", "20261201T000000Z-00000b", other)
    run.begin("weights")
    run.end("weights")
    run.begin("build")
    with page_of(chromium) as page:
        open_page(page, address, f"#/release/{other}")
        wait_until(page, "document.querySelector('.now')?.textContent.includes('build')")
        stages = "[...document.querySelectorAll('.now li')].map(li => li.dataset.stage).join()"
        assert page.evaluate(stages) == "weights,build"
        run.fail()
        wait_until(page, "document.querySelector('.why.failing') !== null")


def test_a_run_that_is_killed_is_seen(chromium: Browser, address: str, scene: BoardScene) -> None:
    release = "model-0-chip_7"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.integration.test_board_live import Following\n"
        "run = Following(Path(sys.argv[1]), '20261201T000000Z-00000c', sys.argv[2])\n"
        "run.begin('build'); print('begun', flush=True); time.sleep(100)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(scene.root / "home"), release],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begun\n"
    with page_of(chromium) as page:
        open_page(page, address)
        wait_until(page, f"{cell(release)}.includes('running: build')")
        writer.kill()
        writer.wait()
        writer.stdout.close()
        wait_until(page, f"!{cell(release)}.includes('running')")
        page.evaluate(f"location.hash = '#/release/{release}'")
        wait_until(page, "document.querySelector('tr[data-run]')?.textContent.includes('killed')")
        assert "its last run was killed" in page.locator(".why").inner_text()


def test_a_new_record_updates_the_matrix(
    chromium: Browser, address: str, scene: BoardScene
) -> None:
    """Also one that another host published: nothing but its file says so."""
    path = scene.root / "dist" / SCENE_RECORDED / "release.json"
    record = json.loads(path.read_text())
    with page_of(chromium) as page:
        open_page(page, address)
        assert "released" in page.evaluate(cell(SCENE_RECORDED))
        record["verdicts"]["evaluate"] = "fail"
        put_record(scene.root / "dist", record)
        wait_until(page, f"{cell(SCENE_RECORDED)}.includes('failing')")
        record["verdicts"]["evaluate"] = "pass"
        put_record(scene.root / "dist", record)
        wait_until(page, f"{cell(SCENE_RECORDED)}.includes('released')")


def test_what_happens_before_a_page_listens_is_told_when_it_does(
    chromium: Browser, address: str, scene: BoardScene
) -> None:
    path = scene.root / "dist" / SCENE_RECORDED / "release.json"
    record = json.loads(path.read_text())

    def late(route: Route) -> None:
        knows = made_with(address)
        assert route.request.url == f"{address}events?after={knows}"
        record["verdicts"]["evaluate"] = "fail"
        put_record(scene.root / "dist", record)
        while made_with(address) == knows:
            time.sleep(0.05)
        route.continue_()

    with page_of(chromium) as page:
        page.route("**/events?*", late, times=1)
        open_page(page, address)
        wait_until(page, f"{cell(SCENE_RECORDED)}.includes('failing')")
    record["verdicts"]["evaluate"] = "pass"
    put_record(scene.root / "dist", record)
    with page_of(chromium) as page:
        open_page(page, address)
        wait_until(page, f"{cell(SCENE_RECORDED)}.includes('released')")


def made_with(address: str) -> str:
    """How far the page knows that the server gives out now."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        text: str = answer.read().decode()
    return text.partition('data-events="events?after=')[2].partition('"')[0]


def test_a_page_of_another_server_is_loaded_anew(chromium: Browser, address: str) -> None:
    """As when the board was started again: nobody knows what such a page missed."""
    loaded: list[str] = []

    def older(route: Route) -> None:
        answer = route.fetch()
        now = made_with(address)
        text = answer.text()
        loaded.append(now)
        if len(loaded) == 1:
            text = text.replace(now, "0123456789abcdef-7")
        route.fulfill(response=answer, body=text)

    with page_of(chromium) as page:
        page.route(address, older)
        ready: list[object] = []
        page.on("load", lambda opened: ready.append(opened))
        page.goto(address)
        deadline = time.monotonic() + 30
        while len(ready) < 2:
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)
        wait_until(page, "document.getElementById('live').textContent.includes('Following')")
        page.wait_for_timeout(500)
        assert len(loaded) == 2, "once is enough"


def test_evidence_and_charts_are_served(chromium: Browser, address: str) -> None:
    with page_of(chromium) as page:
        open_page(page, address, f"#/release/{SCENE_REAL}")
        charts = page.locator("img.chart")
        assert charts.count() == 2
        charts.last.scroll_into_view_if_needed()
        wait_until(page, "document.querySelectorAll('img.chart')[1].naturalWidth > 300")
        href = page.get_by_role("link", name="evidence/smoke.json").get_attribute("href")
        assert href is not None
        assert href.startswith("evidence/")
        status, headers, body = ask(address, "/" + href)
        assert status == 200
        assert "probes" in json.loads(body)
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def ask(
    address: str, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """A request as it stands: nothing in its path is tidied."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=20)
    connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_nothing_else_is_served(address: str, scene: BoardScene) -> None:
    page = ask(address, "/")[2].decode()
    assert 'data-events="events?after=' in page
    secret = scene.root / "dist" / "outside.txt"
    secret.write_text("not yours")
    folder = scene.root / "dist" / SCENE_REAL
    (folder / "evidence" / "unlisted.json").write_text("{}")
    from relforge.board.detail import evidence_id

    base = f"/evidence/{evidence_id(folder)}"
    assert ask(address, f"{base}/evidence/smoke.json")[0] == 200
    tries = [
        "/../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/etc/passwd", "//etc/passwd",
        "/site.yaml", "/board.html.j2", "/releases/../site.yaml", "/charts/../../x.svg",
        f"{base}/../outside.txt", f"{base}/..%2foutside.txt", f"{base}/%2e%2e/outside.txt",
        f"{base}//etc/passwd", f"{base}/evidence/unlisted.json", f"{base}/image/index.json",
        f"{base}/weights/config.json", f"{base}/", f"{base}", "/evidence/", "/releases/",
        f"{base}/evidence/smoke.json%00", "/releases/00000000000000000000.js",
    ]  # fmt: skip
    for path in tries:
        status, _, body = ask(address, path)
        assert status == 404, path
        assert body == b"Not Found\n", path


def test_a_link_in_a_release_leads_nowhere_else(address: str, scene: BoardScene) -> None:
    from relforge.board.detail import evidence_id

    folder = scene.root / "dist" / SCENE_REAL
    log = folder / "evidence" / "server.log"
    kept = log.read_bytes()
    log.unlink()
    log.symlink_to("/etc/hostname")
    try:
        assert ask(address, f"/evidence/{evidence_id(folder)}/evidence/server.log")[0] == 404
    finally:
        log.unlink()
        log.write_bytes(kept)


@pytest.mark.parametrize("path", ["/", "/events", "/base.js"])
def test_another_hosts_name_is_refused(address: str, path: str) -> None:
    for host in ("evil.example", f"evil.example:{urlsplit(address).port}", "", "127.0.0.1.evil"):
        assert ask(address, path, {"Host": host})[0] == 421, host
    port = urlsplit(address).port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
        if path != "/events":  # which would not end
            assert ask(address, path, {"Host": host})[0] == 200


def test_another_sites_page_gets_nothing(address: str) -> None:
    script = ask(address, "/")[2].decode().split('"file":"')[1].split('"')[0]
    status, headers, _ = ask(address, f"/{script}")
    assert status == 200
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    for site in ("cross-site", "same-site"):
        assert ask(address, f"/{script}", {"Sec-Fetch-Site": site})[0] == 403
    assert ask(address, "/", {"Sec-Fetch-Site": "cross-site"})[0] == 200, "a link to the board"


def test_only_reading(address: str) -> None:
    assert ask(address, "/", method="POST")[0] == 501
    status, headers, body = ask(address, "/", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


def test_ctrl_c_stops_it_with_a_page_open(chromium: Browser, scene: BoardScene) -> None:
    with served(scene) as (address, process):
        context = chromium.new_context()
        page = open_page(context.new_page(), address)
        live = "document.getElementById('live').textContent"
        wait_until(page, f"{live}.includes('nothing runs now')")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        wait_until(page, f"{live}.includes('The server is gone; trying again')")
        context.close()
