"""Plans of many releases: the same in several processes, one that fails stops no other."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.executor import forked
from relforge.executor.forked import in_slices
from relforge.lock import Lock, _read, dump_lock
from relforge.manifest.loader import load
from relforge.manifest.project import builtin_root
from relforge.plan import PlanOutput
from tests.support.fleet import make_project

COUNT = 25
# The test runner's own threads are no danger to what is forked here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "fleet"
    root.mkdir()
    make_project(root, COUNT, 4)
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    return root


def plan(fleet: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    code = dispatch("plan", ["--all", "--json", "--project", str(fleet), *more])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_every_release_is_planned_and_the_output_is_as_its_schema_says(
    fleet: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = plan(fleet, capsys)
    assert code == 0
    found = PlanOutput.model_validate_json(out)
    names = [one.name for one in found.releases if one.name.startswith("model-")]
    assert len(names) == COUNT
    assert out == json.dumps(json.loads(out), indent=2, ensure_ascii=False) + "\n"
    assert not (tmp_path / "home").exists(), "planning writes nothing"


def test_two_processes_say_what_one_says(
    fleet: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "processes_for", lambda _items: 1)
    alone = plan(fleet, capsys)
    monkeypatch.setattr(forked, "processes_for", lambda _items: 3)
    assert plan(fleet, capsys) == alone


@pytest.mark.parametrize("broken", ["model-0-chip_1", "model-2-chip_4"])
def test_a_release_that_cannot_be_planned_stops_no_other(
    fleet: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    monkeypatch.setattr(forked, "processes_for", lambda _items: 2)
    (fleet / "manifests" / "releases" / f"{broken}.lock.yaml").unlink()
    code, out, err = plan(fleet, capsys)
    found = PlanOutput.model_validate_json(out)
    assert code == 2
    assert [one.release for one in found.not_planned] == [broken]
    assert "has no lock" in found.not_planned[0].error
    assert broken in err
    assert len([one for one in found.releases if one.name.startswith("model-")]) == COUNT - 1


def test_an_edited_file_is_read_again(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Devices, models, patch sets and references are read once for all releases, not for ever."""
    assert plan(fleet, capsys)[0] == 0
    patch = fleet / "patches" / "main-0" / "0001.patch"
    patch.write_text(patch.read_text().replace("after 0", "after 1"))
    found = PlanOutput.model_validate_json(plan(fleet, capsys)[1])
    assert len(found.not_planned) == 10
    assert all("not the one in the lock" in one.error for one in found.not_planned)
    reference = fleet / "weights" / "model-1" / "reference.json"
    reference.write_text("reference.json of 2\n")
    found = PlanOutput.model_validate_json(plan(fleet, capsys)[1])
    assert len(found.not_planned) == 20
    device = fleet / "manifests" / "devices" / "chip_3.yaml"
    device.write_text(device.read_text().replace("3.11", "3.12"))
    found = PlanOutput.model_validate_json(plan(fleet, capsys)[1])
    assert [one.release for one in found.not_planned if "is stale" in one.error] == [
        f"model-{group}-chip_3" for group in range(3)
    ]


def test_slices_come_back_in_order_and_a_lost_process_is_made_up_for(tmp_path: Path) -> None:
    here = os.getpid()

    def work(part: Sequence[int]) -> tuple[list[int], int]:
        if 7 in part and os.getpid() != here:
            os._exit(9)
        return list(part), os.getpid()

    found = list(in_slices(range(12), work, processes=4))
    assert [number for part, _pid in found for number in part] == list(range(12))
    pids = [pid for _part, pid in found]
    assert pids[2] == here, "the slice of the process that died"
    assert len({here, pids[0], pids[1], pids[3]}) == 4


def test_a_long_list_comes_back_in_small_slices_however_much_each_gives() -> None:
    """More than a pipe holds, and more slices than processes."""

    def work(part: Sequence[int]) -> tuple[list[int], int, bytes]:
        return list(part), os.getpid(), bytes(1 << 21)

    count = 5 * forked.SLICE + 7
    found = list(in_slices(range(count), work, processes=2))
    assert [number for part, _pid, _told in found for number in part] == list(range(count))
    assert max(len(part) for part, _pid, _told in found) == forked.SLICE
    pids = [pid for _part, pid, _told in found]
    assert len({*pids[::2]}) == len({*pids[1::2]}) == 1, "dealt in turn"
    assert len({os.getpid(), *pids}) == 3


def test_what_a_child_told_before_it_was_lost_counts() -> None:
    here = os.getpid()

    def work(part: Sequence[int]) -> tuple[int, int]:
        if part[0] == 3 * forked.SLICE and os.getpid() != here:
            os._exit(9)
        return part[0] // forked.SLICE, os.getpid()

    found = list(in_slices(range(6 * forked.SLICE), work, processes=2))
    assert [number for number, _pid in found] == list(range(6))
    assert [pid == here for _number, pid in found] == [False] * 3 + [True, False, True]


def test_children_are_gone_when_nobody_wants_the_rest() -> None:
    def work(part: Sequence[int]) -> tuple[int, bytes]:
        return os.getpid(), bytes(1 << 22)

    slices = in_slices(range(10 * forked.SLICE), work, processes=2)
    pids = [next(slices)[0], next(slices)[0]]
    slices.close()  # type: ignore[attr-defined]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_error_of_a_slice_is_the_callers() -> None:
    def work(part: Sequence[int]) -> int:
        return 1 // (part[0] - 2)

    with pytest.raises(ZeroDivisionError):
        list(in_slices(range(4), work, processes=2))


def test_a_lock_is_read_line_by_line_only_as_relforge_writes_it(tmp_path: Path) -> None:
    """Whatever else it looks like, it is read, or refused with its place, like other manifests."""
    real = builtin_root() / "manifests" / "releases" / "tiny-adder-cpu_x86.lock.yaml"
    text = real.read_text()
    whole = load(real, Lock)
    assert _read(real) == whole
    assert dump_lock(whole) == real.read_bytes()
    path = tmp_path / "x.lock.yaml"
    line = next(row for row in text.splitlines() if row.startswith("  - {"))
    for wrong in (
        text.replace(line, line.replace("sha256: ", "sha256: x"), 1),
        text.replace(line, line.replace("{name", "{nam"), 1),
        text.replace(line, line + " # why", 1),
        text.replace(line, "  - name: x", 1),
        text.replace("\nbuild_wheels:\n", "\nwheels:\n"),
        text + "more: 1\n",
        text.replace("\nwheels:\n", "\nbuild_wheels: []\nwheels:\n", 1),
        text.replace("kind: lock", "kind: lock\nkind: lock", 1),
        text.replace("  wheels:\n", "  wheels: [1]\n", 1),
        "",
    ):
        path.write_text(wrong)
        assert wrong != text
        assert _read(path) is None
