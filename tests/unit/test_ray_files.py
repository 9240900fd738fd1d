"""Files of jobs on their way: whole, checked, in their places, and without a secret in a word."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from relforge import redact
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.events import Event, StageLine
from relforge.executor.ray_agent import Answer, Attempt, Header
from relforge.executor.ray_desk import Begun
from relforge.executor.ray_host import Unfit
from relforge.executor.ray_news import Listener
from relforge.executor.ray_paths import HOME, Places
from relforge.executor.ray_returns import Returned
from relforge.executor.ray_sent import ProjectFiles, SentFile, pack
from relforge.executor.ray_shared import AnotherFile, LargeFiles, SharedFolder
from relforge.executor.ray_store import WorkerFiles, write_checked
from relforge.executor.ray_taking import NotShared, fetch_shared, take_in
from relforge.frozen import Frozen
from relforge.manifest.site_file import load_site
from relforge.stage import Resources, StageContext, StageResult
from tests.support.ray_toys import Errand, ErrandInputs, errand

SIDE_BY_SIDE = 8


class OneSet(Frozen):
    name: str = "mine"
    repository: None = None


class Patched(ErrandInputs):
    """Inputs of a stage that applies patch sets."""

    sets: tuple[OneSet, ...] = ()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chunks(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    yield data[len(data) // 2 :]


def test_jobs_that_begin_at_once_lay_out_the_same_files(tmp_path: Path) -> None:
    contents = {f"f{n}": f"content {n}".encode() * (1 if n % 5 else 200_000) for n in range(40)}
    by_hash = {sha256(data): data for data in contents.values()}

    def lay_out(number: int) -> None:
        folder = tmp_path / "home" / "ray" / "projects" / f"p{number % 2}"
        files = [
            (
                SentFile(
                    path=Path(name), sha256=sha256(data), size_bytes=len(data),
                    executable=name == "f1",
                ),
                folder / name,
            )
            for name, data in contents.items()
        ]  # fmt: skip
        WorkerFiles(tmp_path / "home", CancelToken()).lay_out(
            files, lambda sha256, _size: chunks(by_hash[sha256])
        )
        for name, data in contents.items():
            assert (folder / name).read_bytes() == data

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for _ in range(10):
            list(pool.map(lay_out, range(SIDE_BY_SIDE)))
    assert not list((tmp_path / "home").rglob(".*part*"))


def test_jobs_that_end_at_once_may_name_the_same_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    data = b"one blob of several releases"
    file = Returned(
        path=HOME / "store/blobs/one", sha256=sha256(data), size_bytes=len(data), output=True
    )

    def take(number: int) -> None:
        incoming = tmp_path / f"incoming-{number}"
        incoming.mkdir(exist_ok=True)
        (incoming / file.sha256).write_bytes(data)
        answer = Answer("h", "n", StageResult(), files=(file,))
        take_in(answer, incoming, Places(home, tmp_path / "dist", ()))

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(take, list(range(SIDE_BY_SIDE)) * 20))
    assert [p.name for p in (home / "store" / "blobs").iterdir()] == ["one"]
    assert (home / "store" / "blobs" / "one").read_bytes() == data


def test_another_file_never_gets_the_name(tmp_path: Path) -> None:
    target = tmp_path / "there" / "file"
    with pytest.raises(AnotherFile):
        write_checked(target, sha256(b"wanted"), chunks(b"other"), CancelToken())
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("bad", [b"half a", b"as long, other words"])
def test_a_bad_file_in_the_shared_folder_is_replaced(tmp_path: Path, bad: bytes) -> None:
    data = b"as long as the other"
    assert len(data) == len(b"as long, other words")
    made = tmp_path / "made"
    made.write_bytes(data)
    folder = tmp_path / "shared"
    folder.mkdir()
    place = SharedFolder(folder, CancelToken())
    place.put(made, sha256(data), len(data))
    (kept,) = folder.glob("??/*")
    kept.write_bytes(bad)
    place.put(made, sha256(data), len(data))
    assert kept.read_bytes() == data
    assert SharedFolder(folder, CancelToken()).id == place.id
    assert list(folder.rglob(".part*")) == []


def test_what_the_driver_cannot_have_from_there_is_dropped_and_asked_for_otherwise(
    tmp_path: Path,
) -> None:
    data = b"a layer"
    folder = tmp_path / "shared"
    folder.mkdir()
    lines: list[str] = []
    large = LargeFiles(SharedFolder(folder, CancelToken()), 1, lines.append)
    file = Returned(
        path=HOME / "layer", sha256=sha256(data), size_bytes=len(data), output=True, shared=True
    )
    answer = Answer("h", "n", StageResult(), files=(file,))
    with pytest.raises(NotShared):
        fetch_shared(answer, tmp_path / "incoming", large, CancelToken())
    (tmp_path / "made").write_bytes(data)
    assert large.put(tmp_path / "made", file.sha256, file.size_bytes)
    (kept,) = folder.glob("??/*")
    kept.write_bytes(b"changed")
    with pytest.raises(NotShared):
        fetch_shared(answer, tmp_path / "incoming", large, CancelToken())
    assert not kept.exists(), "the next one puts it there anew"
    assert "came as another one" in lines[-1]
    assert large.put(tmp_path / "made", file.sha256, file.size_bytes)
    fetch_shared(answer, tmp_path / "incoming", large, CancelToken())
    assert (tmp_path / "incoming" / file.sha256).read_bytes() == data


def test_an_error_of_a_host_goes_over_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", set())
    word = "a-word-of-this-host"
    redact.register(word)
    attempt = Attempt(Header("job", "1"), b"", None, "node", "north", None)
    said = {"what": f"{word} refused", "where": f"at {word}", "why": f"of {word}", "hint": word}
    what = said.pop("what")
    for error in (
        RelforgeError(what, code=ExitCode.SOURCE, **said),
        Unfit(what, code=ExitCode.ENVIRONMENT, **said),
        OSError(28, f"No space left on device: {word}"),
        ValueError(word),
    ):
        assert word.encode() not in pickle.dumps(attempt._failed(error)), type(error)


def test_a_key_beside_the_patches_of_the_site_stays(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "series").write_text("0001.patch\n")
    (folder / "0001.patch").write_text("diff\n")
    (folder / "notes.txt").write_text("AGE-SECRET-KEY-1" + "Q" * 58 + "\n")
    path = tmp_path / "site.yaml"
    path.write_text(f"home: {tmp_path / 'home'}\npatch_sets: {{mine: {folder}}}\n")
    site = load_site(path)

    job = replace(errand(tmp_path / "home", site=site), inputs=Patched(sets=(OneSet(),)))
    packed = pack(Errand(), job, Resources(), ProjectFiles(site))
    names = {file.path.name for file in packed.sent.files}
    assert names == {"series", "0001.patch"}


def test_a_host_that_is_lost_does_not_take_the_next_ones_attempt_with_it() -> None:
    told: list[Event] = []
    listener = Listener(StageContext("r", "s", CancelToken(), told.append))
    first, second = Begun("job", "north", "n1"), Begun("job", "south", "n2")
    listener.begin(first)
    listener.begin(second)
    lines = [event.text for event in told if isinstance(event, StageLine)]
    assert lines == ["host north was lost; the job begins anew on south"]
    assert not listener.lost(first)
    assert listener.host is second
    assert listener.lost(second)
    assert listener.host is None
