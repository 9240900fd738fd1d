"""Weights from hubs: the real client libraries against stand-in hubs, and every way it ends."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.cli.dispatch import dispatch
from relforge.errors import Cancelled, ExitCode
from relforge.manifest.loader import load
from relforge.manifest.model import Model
from relforge.manifest.site import HubSite, HubsSite, Site
from tests.fakes.hub import FakeHub, Repo
from tests.support.tls import self_signed
from tests.support.weights import (
    REVISION,
    Toy,
    as_process,
    from_hub,
    model,
    planned,
    result_of,
    run,
    served,
)

HAS_HUB = "RELFORGE_ALL_TESTS" in os.environ or importlib.util.find_spec("modelscope_hub")
pytestmark = pytest.mark.skipif(not HAS_HUB, reason="extra 'hub' is not installed")
ROOT = Path(__file__).resolve().parents[2]
KINDS = ("huggingface", "modelscope")
TOKEN = "hf_" + "t" * 20
SMALL = {"config.json": b'{"a": 1}', "sub/part.safetensors": random.Random(1).randbytes(300_000)}
# The Hugging Face client writes 10 MB at a time: less of a file is not there after a kill.
MB = 1_000_000
LARGE = {"config.json": b"{}", "model.safetensors": random.Random(2).randbytes(26 * MB)}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub({"o/m": Repo({REVISION: dict(SMALL)}, large=("sub/part.safetensors",))}) as made:
        yield made


def site_of(hub: FakeHub | str, token_file: Path | None = None) -> Site:
    url = hub if isinstance(hub, str) else hub.url
    one = HubSite(endpoint=url, token_file=token_file)
    return Site(hubs=HubsSite(huggingface=one, modelscope=one))


def toy(hub: FakeHub | str, home: Path, kind: str, **changes: object) -> Toy:
    return Toy(model(from_hub(kind, SMALL, **changes)), site_of(hub), home)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_has_exactly_the_pinned_files(hub: FakeHub, tmp_path: Path, kind: str) -> None:
    hub.repos["o/m"].revisions[REVISION]["not-pinned.bin"] = b"x"
    outcome, lines = run(tmp_path, toy(hub, tmp_path, kind))
    result = result_of(outcome)
    assert served(result) == SMALL
    assert sorted(result.names) == sorted(SMALL)
    assert (result.verified, result.total_bytes) == (True, sum(map(len, SMALL.values())))
    assert result.origin == f"{kind}: o/m at {REVISION}"
    assert sorted(sent.path for sent in hub.sent) == sorted(SMALL)
    assert any(hashlib.sha256(SMALL["config.json"]).hexdigest() in line for line in lines)
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_asks_nobody(hub: FakeHub, tmp_path: Path, kind: str) -> None:
    run(tmp_path, toy(hub, tmp_path, kind))
    hub.asked.clear()
    again = toy(hub, tmp_path, kind)
    assert planned(tmp_path, again).stages[0].status == "reuse"
    assert served(result_of(run(tmp_path, again)[0])) == SMALL
    # Another model with a file of the same content, under another name: one content, one file.
    name = "renamed.safetensors"
    other = {name: SMALL["sub/part.safetensors"]}
    pinned = Toy(model(from_hub(kind, other), "other"), site_of(hub), tmp_path)
    result = result_of(run(tmp_path, pinned)[0])
    assert served(result) == other
    assert hub.asked == []


def test_an_altered_file_is_fetched_again_and_no_other(hub: FakeHub, tmp_path: Path) -> None:
    subject = toy(hub, tmp_path, "huggingface")
    result = result_of(run(tmp_path, subject)[0])
    hub.sent.clear()
    victim = result.folder / "config.json"
    victim.chmod(0o644)
    victim.write_bytes(b"spoiled")
    assert "changed its size" in planned(tmp_path, subject).stages[0].because
    assert served(result_of(run(tmp_path, subject)[0])) == SMALL
    assert [sent.path for sent in hub.sent] == ["config.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_after_kill_9_the_same_command_continues(tmp_path: Path, kind: str) -> None:
    weights = from_hub(kind, LARGE)
    with FakeHub({"o/m": Repo({REVISION: LARGE}, large=("model.safetensors",))}) as hub:
        hub.stall_after = 24 * MB
        child = subprocess.Popen(as_process(tmp_path, weights, site_of(hub)), cwd=ROOT)
        assert hub.stalled.wait(60)
        wait_for_partial(tmp_path, 18 * MB)
        wait_for_stored(tmp_path, LARGE["config.json"])
        child.kill()
        assert child.wait(30) == -signal.SIGKILL
        hub.stall_after = None
        hub.go_on.set()
        hub.sent.clear()
        result = result_of(run(tmp_path, Toy(model(weights), site_of(hub), tmp_path))[0])
        assert served(result) == LARGE
        (again,) = hub.sent
        assert again.path == "model.safetensors", "what was whole is not fetched again"
        assert again.start >= 18 * MB
        assert again.start + again.count == len(LARGE["model.safetensors"])
    assert list((tmp_path / "store/weights/.incoming").iterdir()) == []


def wait_for_partial(home: Path, size: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        partial = list((home / "store/weights/.incoming").rglob("*.incomplete"))
        if any(path.stat().st_size >= size for path in partial):
            return
        time.sleep(0.05)
    raise AssertionError("the client wrote nothing")


def wait_for_stored(home: Path, data: bytes) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    deadline = time.monotonic() + 60
    while not (home / "store/weights" / sha256[:2] / f"{sha256}.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_line_is_continued_by_itself(tmp_path: Path, kind: str) -> None:
    with FakeHub({"o/m": Repo({REVISION: LARGE})}) as hub:
        hub.drop_after = 21 * MB
        made = Toy(model(from_hub(kind, LARGE)), site_of(hub), tmp_path)
        assert served(result_of(run(tmp_path, made)[0])) == LARGE
        starts = [sent.start for sent in hub.sent if sent.path == "model.safetensors"]
    assert len(starts) == 2
    assert starts[1] > 0


def test_a_damaged_beginning_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    subject = toy(hub, tmp_path, "huggingface")
    data = SMALL["sub/part.safetensors"]
    left = tmp_path / "store/weights/.incoming" / hashlib.sha256(data).hexdigest() / "sub"
    left.mkdir(parents=True)
    (left / "part.safetensors.incomplete").write_bytes(b"\0" * 1000)
    outcome, lines = run(tmp_path, subject)
    assert served(result_of(outcome)) == SMALL
    assert [s.start for s in hub.sent if s.path == "sub/part.safetensors"] == [1000, 0]
    assert any("did not fit" in line for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_that_was_not_hashed_yet_is_not_fetched_again(
    hub: FakeHub, tmp_path: Path, kind: str
) -> None:
    data = SMALL["sub/part.safetensors"]
    left = tmp_path / "store/weights/.incoming" / hashlib.sha256(data).hexdigest() / "sub"
    left.mkdir(parents=True)
    (left / "part.safetensors").write_bytes(data)
    assert served(result_of(run(tmp_path, toy(hub, tmp_path, kind))[0])) == SMALL
    assert [sent.path for sent in hub.sent] == ["config.json"]


def test_runs_of_two_models_fetch_a_shared_file_once(tmp_path: Path) -> None:
    with FakeHub({"o/m": Repo({REVISION: LARGE})}) as hub:
        hub.stall_after = 24 * MB
        said: dict[str, list[str]] = {}
        results: dict[str, dict[str, bytes]] = {}

        def fetch(name: str) -> None:
            made = Toy(model(from_hub("huggingface", LARGE), name), site_of(hub), tmp_path)
            outcome, said[name] = run(tmp_path, made)
            results[name] = served(result_of(outcome))

        threads = [threading.Thread(target=fetch, args=(name,)) for name in ("one", "two")]
        threads[0].start()
        assert hub.stalled.wait(60)
        threads[1].start()
        # The second has looked at the listing; it can only be waiting for the lock by then.
        deadline = time.monotonic() + 30
        while sum("blobs=true" in asked for asked in hub.asked) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        hub.go_on.set()
        for thread in threads:
            thread.join(60)
        sent = [one for one in hub.sent if one.path == "model.safetensors"]
    assert results == {"one": LARGE, "two": LARGE}
    assert len(sent) == 1
    assert any("waiting: process" in line for line in said["two"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_opens_it_and_is_seen_nowhere(tmp_path: Path, kind: str) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    home = tmp_path / "home"
    repo = Repo({REVISION: LARGE}, token=TOKEN, gated=True, large=("model.safetensors",))
    with FakeHub({"o/m": repo}) as hub:
        hub.stall_after = 12 * MB
        made = Toy(model(from_hub(kind, LARGE)), site_of(hub, token_file), tmp_path)
        found: list[dict[str, bytes]] = []
        thread = threading.Thread(
            target=lambda: found.append(served(result_of(run(home, made)[0])))
        )
        thread.start()
        assert hub.stalled.wait(60)
        workers = [p for p in Path("/proc").glob("[0-9]*") if is_worker(p)]
        shown = [told(p / name) for p in workers for name in ("cmdline", "environ")]
        hub.go_on.set()
        thread.join(60)
        away = [sent for sent in hub.sent if sent.host.startswith("localhost")]
    assert any(shown)
    assert not any(TOKEN.encode() in text for text in shown)
    assert found == [LARGE]
    assert all(not sent.authorized for sent in away), "storage elsewhere does not get the token"
    for path in home.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def told(file: Path) -> bytes:
    """Of a process; a worker of another test that runs beside this one may have ended by now."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def is_worker(process: Path) -> bool:
    try:
        return b"relforge.weights.worker" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def test_the_users_own_login_is_not_used(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["o/m"].token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    for kind in KINDS:
        error = run(tmp_path / kind, toy(hub, tmp_path, kind))[0].error
        assert error is not None
        assert "without a token" in error.what


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "what", "hint"),
    [
        ("no-revision", "has no revision bbbb", "weights.revision"),
        ("no-file", "has no file absent.bin", "weights.files"),
        ("other-hash", "config.json is not the pinned file", "pin the hash"),
        ("other-content", "config.json is not the pinned file", "pin the hash"),
        ("other-size", "config.json is not the pinned file", "pin the hash"),
        ("no-token", "does not give out o/m without a token", "token_file"),
        ("wrong-token", "does not give o/m to the owner of this token", "another token"),
        ("unreachable", "does not answer", "endpoint"),
    ],
)
def test_what_a_hub_does_not_give_is_told(
    hub: FakeHub, tmp_path: Path, kind: str, fault: str, what: str, hint: str
) -> None:
    changes: dict[str, object] = {}
    repo, site = hub.repos["o/m"], site_of(hub)
    if fault == "no-revision":
        changes["revision"] = "b" * 40
    elif fault == "no-file":
        changes["files"] = {"absent.bin": {"sha256": "0" * 64, "size_bytes": 1}}
    elif fault == "other-hash":
        repo.large = ("config.json",)
        repo.revisions[REVISION]["config.json"] = b'{"a": 2}'
    elif fault == "other-content":  # the listing looks right, what comes is not
        repo.listed = {"config.json": SMALL["config.json"]}
        repo.revisions[REVISION]["config.json"] = b'{"a": 2}'
    elif fault == "other-size":
        repo.revisions[REVISION]["config.json"] = b"{}"
    elif fault in ("no-token", "wrong-token"):
        repo.token, repo.gated = TOKEN, True
        if fault == "wrong-token":
            (tmp_path / "token").write_text("hf_" + "w" * 20)
            site = site_of(hub, tmp_path / "token")
    elif fault == "unreachable":
        site = site_of("http://127.0.0.1:9")
    made = Toy(model(from_hub(kind, SMALL, **changes)), site, tmp_path)
    error = run(tmp_path, made)[0].error
    assert error is not None
    assert error.code == ExitCode.SOURCE
    assert what in error.what
    assert error.hint is not None
    assert hint in error.hint
    assert "o/m" in (error.where or "")
    if fault not in ("no-token", "wrong-token", "unreachable", "other-content"):
        assert hub.sent == [], "nothing is fetched before everything fits"
    # What is not the pinned file is kept nowhere.
    stored = [p.name for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert hashlib.sha256(b'{"a": 2}').hexdigest() not in stored
    assert not list((tmp_path / "store").rglob("config.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_repository_is_told(hub: FakeHub, tmp_path: Path, kind: str) -> None:
    (tmp_path / "token").write_text(TOKEN)
    made = Toy(
        model(from_hub(kind, SMALL, repository="o/other")),
        site_of(hub, tmp_path / "token"),
        tmp_path,
    )
    error = run(tmp_path, made)[0].error
    assert error is not None
    assert error.what == f"weights of toy: {kind} has no repository o/other"


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_refused(
    hub: FakeHub, tmp_path: Path, content: bytes | None
) -> None:
    token_file = tmp_path / "token"
    if content is not None:
        token_file.write_bytes(content)
    made = Toy(model(from_hub("huggingface", SMALL)), site_of(hub, token_file), tmp_path)
    error = run(tmp_path / "home", made)[0].error
    assert error is not None
    assert error.code == ExitCode.ENVIRONMENT
    assert error.where == str(token_file)
    assert hub.asked == []


def test_a_small_disk_is_told_before_anything_is_fetched(small_disk: Path) -> None:
    with FakeHub({"o/m": Repo({REVISION: dict(SMALL)})}) as hub:
        error = run(small_disk, toy(hub, small_disk, "huggingface"))[0].error
        assert error is not None
        assert error.code == ExitCode.ENVIRONMENT
        assert "the disk is too small" in error.what
        assert hub.sent == []


@pytest.mark.parametrize(
    ("kind", "module"),
    [("huggingface", "huggingface_hub"), ("modelscope", "modelscope_hub")],
)
def test_a_client_that_is_killed_is_told(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    error = run(tmp_path / "home", toy(hub, tmp_path, kind))[0].error
    assert error is not None
    assert (error.code, error.what) == (
        ExitCode.SOURCE,
        f"the client of {kind} ended without an answer",
    )


@pytest.mark.parametrize(
    ("kind", "module"),
    [("huggingface", "huggingface_hub"), ("modelscope", "modelscope_hub")],
)
def test_a_missing_extra_is_told(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise ImportError('No module named {module}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    error = run(tmp_path / "home", toy(hub, tmp_path, kind))[0].error
    assert error is not None
    assert error.code == ExitCode.ENVIRONMENT
    assert error.hint == "pip install 'relforge[hub]'"


def test_cancelling_ends_it_and_keeps_what_is_here(tmp_path: Path) -> None:
    with FakeHub({"o/m": Repo({REVISION: LARGE})}) as hub:
        hub.stall_after = 24 * MB
        cancel = CancelToken()
        made = Toy(model(from_hub("modelscope", LARGE)), site_of(hub), tmp_path)
        ended: list[BaseException] = []

        def fetch() -> None:
            try:
                run(tmp_path, made, cancel)
            except Cancelled as error:
                ended.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        assert hub.stalled.wait(60)
        wait_for_partial(tmp_path, 18 * MB)
        cancel.cancel("SIGINT")
        thread.join(30)
        assert [str(error) for error in ended] == ["SIGINT"]
    wait_for_partial(tmp_path, 18 * MB)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirror_with_a_certificate_of_the_site_is_trusted_by_extra_ca(
    tmp_path: Path, kind: str
) -> None:
    certificate, context = self_signed(tmp_path)
    repo = Repo({REVISION: dict(SMALL)}, large=("sub/part.safetensors",))
    with FakeHub({"o/m": repo}, tls=context) as hub:
        made = Toy(model(from_hub(kind, SMALL)), site_of(hub), tmp_path)
        error = run(tmp_path / "home", made)[0].error
        assert error is not None
        assert "certificate" in (error.why or "").lower()
        trusting = made.site.model_copy(update={"extra_ca": certificate})
        outcome, _ = run(tmp_path / "home", Toy(made.model, trusting, tmp_path))
        assert served(result_of(outcome)) == SMALL
        missing = made.site.model_copy(update={"extra_ca": tmp_path / "gone.pem"})
        error = run(tmp_path / "other", Toy(made.model, missing, tmp_path))[0].error
        assert error is not None
        assert (error.code, error.where) == (ExitCode.ENVIRONMENT, str(tmp_path / "gone.pem"))


# ------------------------------------------------------------------- pinning

UNPINNED = """\
# Looked after by hand.
kind: model
name: toy
title: Toy
summary: A toy.
license: MIT
license_source: nobody
architecture: Toy
parameters: 1
precision: float32
weights:
  kind: {kind}
  repository: o/m
  # Not looked up yet.
  revision: unresolved
languages: [en]   # and no other
"""


@pytest.fixture
def unpinned(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model that nobody pinned yet."""
    (tmp_path / "manifests" / "models").mkdir(parents=True)
    hubs = f"{{huggingface: {{endpoint: '{hub.url}'}}, modelscope: {{endpoint: '{hub.url}'}}}}"
    (tmp_path / "site.yaml").write_text(f"kind: site\nhome: home\nhubs: {hubs}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    return tmp_path / "manifests" / "models" / "toy.yaml"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_pinned_as_the_hub_has_it(
    hub: FakeHub, unpinned: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["o/m"].revisions[REVISION]["README.md"] = b"no weights"
    unpinned.write_text(UNPINNED.format(kind=kind))
    words = ["pin", "--model", "toy", "--revision", REVISION]
    assert dispatch("weights", words) == 0
    printed = capsys.readouterr().out
    assert unpinned.read_text() == UNPINNED.format(kind=kind), "without --write nothing is changed"
    assert dispatch("weights", [*words, "--write"]) == 0
    text = unpinned.read_text()
    assert printed in text
    assert text.startswith("# Looked after by hand.\n")
    assert text.endswith("languages: [en]   # and no other\n")
    weights = load(unpinned, Model).weights
    assert weights.kind == kind
    assert f"  revision: {REVISION}\n" in text
    assert weights.files == {n: hashlib.sha256(data).hexdigest() for n, data in SMALL.items()}
    assert sorted(p.name for p in unpinned.parent.iterdir()) == ["toy.yaml"]


def test_a_branch_becomes_its_commit(
    hub: FakeHub, unpinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["o/m"].branches["main"] = REVISION
    unpinned.write_text(UNPINNED.format(kind="huggingface"))
    assert dispatch("weights", ["pin", "--model", "toy", "--write"]) == 0
    assert f"main is {REVISION}" in capsys.readouterr().err
    weights = load(unpinned, Model).weights
    assert weights.kind == "huggingface"
    assert weights.revision == REVISION


@pytest.mark.parametrize(
    ("kind", "words", "code", "said"),
    [
        ("modelscope", [], 2, "name a tag or a commit"),
        ("modelscope", ["--revision", "v9"], 4, "has no revision v9"),
        ("huggingface", ["--revision", "nowhere"], 4, "has no revision nowhere"),
    ],
)
def test_what_cannot_be_pinned_is_said_and_changes_nothing(
    unpinned: Path,
    kind: str,
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unpinned.write_text(UNPINNED.format(kind=kind))
    assert dispatch("weights", ["pin", "--model", "toy", "--write", *words]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert unpinned.read_text() == UNPINNED.format(kind=kind)


def test_weights_that_nobody_pinned_are_not_fetched(hub: FakeHub, unpinned: Path) -> None:
    unpinned.write_text(UNPINNED.format(kind="huggingface"))
    outcome, _ = run(unpinned.parent, Toy(load(unpinned, Model), site_of(hub), unpinned.parent))
    assert outcome.error is not None
    assert outcome.error.code == ExitCode.SOURCE
    assert "relforge weights pin --model toy" in (outcome.error.hint or "")
    assert hub.asked == []
