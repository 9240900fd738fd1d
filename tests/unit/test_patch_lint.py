"""``relforge patch lint``: a faulty checkout gives every finding once, a clean one gives none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode
from relforge.gitio import Git
from relforge.patching.flagscale.repository import Repository as Clone
from relforge.patching.lint.checkout import lint_checkout
from relforge.patching.lint.content import Place, check_patch, check_sealed, superseded
from relforge.patching.lint.diffs import read_patch
from relforge.patching.lint.model import LintReport, printable
from relforge.patching.lint.series import lint_series
from tests.support.patching import new_repository, write_patch_set

ENGINE = b"".join(b"engine line %d\n" % i for i in range(20))
PEM = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n-----END RSA PRIVATE KEY-----\n"
GONE, NOWHERE, VLLM = "1" * 40, "2" * 40, "3" * 40


def diff(path: str, *added: bytes, mode: str = "new file mode 100644") -> bytes:
    lines = b"".join(b"+" + line + b"\n" for line in added)
    return (
        f"diff --git a/{path} b/{path}\n{mode}\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1,{len(added)} @@\n"
    ).encode() + lines


GOOD = diff("vendor.py", b"x = 1")
CHANGE = (
    b"diff --git a/engine.py b/engine.py\n--- a/engine.py\n+++ b/engine.py\n"
    b"@@ -1,2 +1,2 @@\n-engine line 0\n+vendor line 0\n engine line 1\n"
)


class Checkout:
    """A repository with a base, and files of entries that wait for a commit."""

    def __init__(self, root: Path) -> None:
        self.repository = new_repository(root)
        self.git = self.repository.git
        self.repository.write({"engine.py": ENGINE, "hardware/README.md": b"vendors\n"})
        (root / ".gitmodules").write_text(
            '[submodule "third_party/vllm"]\n\tpath = third_party/vllm\n\turl = ../vllm\n'
        )
        self.git("add", "-A")
        self.gitlink("third_party/vllm")
        self.git("commit", "-q", "-m", "base")
        self.base = self.repository.head
        self.files: dict[str, bytes | None] = {}

    def gitlink(self, path: str) -> None:
        (self.repository.path / path).mkdir(parents=True)
        self.git("update-index", "--add", "--cacheinfo", f"160000,{VLLM},{path}")

    def entry(self, folder: str, patch: bytes = GOOD, **changes: Any) -> None:
        device, backend = folder.split("/")
        content = {
            "backends_commit": {} if backend == "FlagScale" else {backend: VLLM},
            "backends_version": {backend: "0.9"},
            "commit": self.base,
            "contact": "",
            "device_type": device,
            "models": ["qwen3"],
            "task": ["train"],
            **changes,
        }
        kept = {key: value for key, value in content.items() if value is not None}
        self.files[f"hardware/{folder}/diff.yaml"] = yaml.safe_dump(kept).encode()
        self.files[f"hardware/{folder}/diff.patch"] = patch

    def put(self, path: str, content: bytes) -> None:
        self.files[f"hardware/{path}"] = content

    def commit(self) -> str:
        self.repository.write(self.files)
        self.files = {}
        self.git("add", "-A", ":!third_party")
        self.git("commit", "-q", "-m", "entries")
        return self.repository.head

    def history(self, content: dict[str, Any]) -> str:
        self.put("patch_history.yaml", yaml.safe_dump(content, sort_keys=False).encode())
        return self.commit()

    def object(self, path: str) -> Path:
        oid = self.git("rev-parse", f"HEAD:{path}").decode().strip()
        return self.repository.path / ".git" / "objects" / oid[:2] / oid[2:]

    def lint(self, home: Path, commit: str | None = None) -> LintReport:
        path = self.repository.path
        clone = Clone(Git(path / ".git"), path, "HEAD", str(path))
        return lint_checkout(clone, commit, home=home)


def _entries(one: Checkout, orphan: str) -> None:
    """One device for each fault."""
    one.entry("A_X1/FlagScale", commit=orphan)
    one.entry("B_X1/FlagScale", commit=GONE)
    one.entry("C_X1/FlagScale", commit=one.base[:12], task=["llama3"], contact="me@qq.com")
    one.put("D_X1/FlagScale/diff.patch", GOOD)
    one.put("E_X1/FlagScale/diff.patch", GOOD)
    one.put("E_X1/FlagScale/diff.yaml", b"- not\n- a mapping\n")
    one.entry("F_X1/FlagScale", models=None, modles=["x"], device_type="Other_X1")
    one.entry("b_x1/FlagScale", task=[])
    one.entry("G_X1/FlagScale", CHANGE.replace(b"-engine line 0", b"-another line"))
    one.entry("H_X1/FlagScale")
    one.put("H_X1/FlagScale/a.py.patch", GOOD)
    one.put("H_X1/FlagScale/a.py.patch.encrypted", b"s" * 560)
    one.put("H_X1/FlagScale/b.py.patch.encrypted", b"s" * 561)
    one.entry("I_X1/FlagScale")
    del one.files["hardware/I_X1/FlagScale/diff.patch"]
    one.entry("J_X1/FlagScale", diff("white.py", b"x = 1   "))
    one.put("J_X1/FlagScale/notes.txt", b"notes\n")
    one.put("J_X1/loose.txt", b"loose\n")
    one.entry("K_X1/vllm", task=["inference"], backends_version={"other": "1"})
    one.entry("K_X1/FlagScale")
    one.entry("K_X1/weird")
    one.entry("L_X1/FlagScale", CHANGE)
    one.entry("M_X1/sglang", backends_commit={"sglang": VLLM, "vllm": GONE})
    one.entry("M_X1/vllm", commit=GONE)
    one.put(f"n_X1/{one.base[:8]}/{one.base[:8]}.patch", GOOD)
    one.put(f"o_X1/{one.base[:8]}/{one.base[:8]}.patch", GOOD)
    one.entry("n_X1/FlagScale")
    one.entry("P_X1/FlagScale", diff("gone.py", b"this object is gone"))
    one.entry("P_X1/vllm", diff("other.py", b"this object is another"))
    one.entry("R_X1/FlagScale", diff("../out.py", b"x"))
    one.entry("T_X1/FlagScale", diff("sub", b"Subproject commit x", mode="new file mode 160000"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, home: Path) -> dict[str, LintReport]:
    """The reports of two commits of one repository; the second one has the history."""
    one = Checkout(tmp_path_factory.mktemp("faulty") / "FlagScale")
    tree = one.repository.tree()
    orphan = one.git("commit-tree", tree, "-m", "nowhere").decode().strip()
    one.git("branch", "side", one.git("commit-tree", tree, "-m", "side").decode().strip())
    side = one.git("rev-parse", "side").decode().strip()
    one.repository.write(
        {
            "engine.py": ENGINE.replace(b"line 0\n", b"line zero\n"),
            "examples/hostfile": b"10.0.0.5 slots=8\n",
            "tests/key.pem": PEM,
        }
    )
    one.gitlink("third_party/lerobot")
    _entries(one, orphan)
    first = one.commit()
    one.put("patch_history.yaml", b"")
    one.entry("S_X1/FlagScale", commit=first)
    one.entry("S_X1/vllm", task=["inference"])
    one.files["tools/patch/hetero.txt"] = f"{one.base[:8]}:  n_X1 Missing_X1\n".encode()
    second = one.commit()
    third = one.history(
        {
            "A_X1": {"train": {"FlagScale": [NOWHERE, orphan, side, first[:10], first]}},
            "L-X1": {"train": {"FlagScale": [first]}},
            "L_X1": {"training": {"FlagScale": [first]}, "train": {"vllm+FlagScale": [first]}},
            "S_X1": {"train": {"FlagScale+vllm": [second], "FlagScale": [second]}},
        }
    )
    one.object("hardware/P_X1/FlagScale/diff.patch").unlink()
    wrong = one.object("hardware/P_X1/vllm/diff.patch")
    wrong.chmod(0o644)
    wrong.write_bytes(one.object("hardware/README.md").read_bytes())
    return {"first": one.lint(home, first), "third": one.lint(home, third)}


FIRST = [
    ("base-unreachable", "error", "hardware/A_X1/FlagScale/diff.yaml", "on no branch"),
    ("base-missing", "error", "hardware/B_X1/FlagScale/diff.yaml", "the object is missing"),
    ("diff-yaml-short-commit", "error", "hardware/C_X1/FlagScale/diff.yaml", "40 digits"),
    ("task-unknown", "error", "hardware/C_X1/FlagScale/diff.yaml", "llama3"),
    ("contact-personal", "note", "hardware/C_X1/FlagScale/diff.yaml", "mail"),
    ("diff-yaml-missing", "error", "hardware/D_X1/FlagScale", "no diff.yaml"),
    ("diff-yaml-invalid", "error", "hardware/E_X1/FlagScale/diff.yaml", "no mapping"),
    ("diff-yaml-keys", "warning", "hardware/F_X1/FlagScale/diff.yaml", "missing: models"),
    ("diff-yaml-keys", "warning", "hardware/F_X1/FlagScale/diff.yaml", "modles"),
    ("diff-yaml-device", "error", "hardware/F_X1/FlagScale/diff.yaml", "Other_X1"),
    ("device-name", "warning", "hardware/b_x1", "capital"),
    ("device-spelling", "warning", "hardware/B_X1", "B_X1, b_x1"),
    ("task-missing", "warning", "hardware/b_x1/FlagScale/diff.yaml", "no task"),
    ("patch-does-not-apply", "error", "hardware/G_X1/FlagScale", "engine.py: hunk 1"),
    ("plain-beside-sealed", "error", "hardware/H_X1/FlagScale/a.py.patch", "decrypted"),
    ("several-generations", "error", "hardware/H_X1/FlagScale", "2 others"),
    ("sealed-size", "error", "hardware/H_X1/FlagScale/b.py.patch.encrypted", "561 bytes"),
    ("entry-empty", "error", "hardware/I_X1/FlagScale", "no patch"),
    ("whitespace", "note", "hardware/J_X1/FlagScale", "exact one"),
    ("stray-file", "warning", "hardware/J_X1/FlagScale/notes.txt", "belong"),
    ("stray-file", "warning", "hardware/J_X1/loose.txt", "beside"),
    ("siblings-tasks", "warning", "hardware/K_X1", "FlagScale train, vllm inference"),
    ("entry-name", "warning", "hardware/K_X1/weird", "neither"),
    ("diff-yaml-versions", "note", "hardware/K_X1/vllm/diff.yaml", "vllm itself"),
    ("submodule-not-at-hand", "note", "third_party/vllm", "K_X1/vllm"),
    ("patch-behind", "warning", "hardware/L_X1/FlagScale", "no longer"),
    ("siblings-disagree", "warning", "hardware/M_X1/sglang/diff.yaml", "do not work together"),
    ("siblings-bases", "note", "hardware/M_X1/sglang/diff.yaml", "both for train"),
    ("two-layouts", "note", "hardware/n_X1", "both layouts"),
    ("hetero-missing", "note", "tools/patch/hetero.txt", "n_X1 o_X1"),
    ("object-missing", "error", "hardware/P_X1/FlagScale/diff.patch", "is missing in this clone"),
    ("object-missing", "error", "hardware/P_X1/vllm/diff.patch", "another content"),
    ("patch-unsafe-path", "error", "hardware/R_X1/FlagScale/diff.patch:1", "../out.py"),
    ("patch-refused", "error", "hardware/R_X1/FlagScale", "leaves the tree"),
    ("patch-submodule", "error", "hardware/T_X1/FlagScale/diff.patch:1", "submodule sub"),
    ("submodule-undeclared", "warning", "third_party/lerobot", ".gitmodules"),
    ("private-key", "error", "tests/key.pem:1", "PEM"),
    ("address-in-hostfile", "error", "examples/hostfile:1", "10.0.0.5"),
]
HISTORY = "hardware/patch_history.yaml"
THIRD = [
    ("history-commit-missing", "error", f"{HISTORY}:4", NOWHERE),
    ("history-commit-unreachable", "error", f"{HISTORY}:5", "no branch"),
    ("history-commit-unreachable", "warning", f"{HISTORY}:6", "another branch"),
    ("history-folder-missing", "error", f"{HISTORY}:5", "hardware/A_X1/FlagScale"),
    ("history-short-commit", "warning", f"{HISTORY}:7", "no full commit"),
    ("history-key", "error", f"{HISTORY}:16", "'training'"),
    ("history-key", "error", f"{HISTORY}:19", "FlagScale+vllm"),
    ("device-spelling", "warning", "hardware/L_X1", "L_X1, L-X1"),
    ("history-task", "error", f"{HISTORY}:23", "vllm/diff.yaml says it is for inference"),
    ("bases-differ", "warning", f"{HISTORY}:23", "the newest"),
    ("history-single-missing", "note", HISTORY, "S_X1 train FlagScale+vllm is named, vllm alone"),
    ("history-versions", "note", "hardware/S_X1/vllm/diff.yaml", "does not name FlagScale"),
    ("entry-not-in-history", "warning", "hardware/K_X1/FlagScale", "--commit"),
    ("hetero-entry-missing", "warning", "tools/patch/hetero.txt", "Missing_X1"),
]


@pytest.mark.parametrize(
    ("which", "expected"),
    [*(("first", e) for e in FIRST), *(("third", e) for e in THIRD)],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[2][-24:]}",
)
def test_a_fault_is_found(
    faulty: dict[str, LintReport], which: str, expected: tuple[str, str, str, str]
) -> None:
    id_, severity, path, words = expected
    at = [f for f in faulty[which].findings if f.id == id_ and (f.path or "").endswith(path)]
    fitting = [f for f in at if words in f.message]
    assert len(fitting) == 1, at or [f for f in faulty[which].findings if f.id == id_]
    assert fitting[0].severity == severity
    assert fitting[0].remedy


def test_the_counts_are_those_of_the_findings(faulty: dict[str, LintReport]) -> None:
    report = faulty["first"]
    for severity in ("error", "warning", "note"):
        listed = [f for f in report.findings if f.severity == severity]
        assert getattr(report.counts, severity) == len(listed) > 0
    assert [f.severity for f in report.findings] == sorted(
        (f.severity for f in report.findings), key=["error", "warning", "note"].index
    )


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    # A checkout that ran the quickstart has a site configuration, which must not count here.
    (tmp_path / "site.yaml").write_text("kind: site\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    monkeypatch.chdir(tmp_path)
    one = Checkout(tmp_path / "FlagScale")
    one.entry("A_X1/FlagScale", CHANGE)
    held = one.commit()
    one.history({"A_X1": {"train": {"FlagScale": [held]}}})
    return one


def test_a_clean_checkout_gives_no_finding_and_its_working_tree_does_not_count(
    clean: Checkout, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = clean.repository.path
    (path / "hardware" / "A_X1" / "FlagScale" / "key.pem").write_bytes(PEM)
    before = sorted((path / ".git").iterdir())
    assert dispatch("patch", ["lint", str(path), "--json"]) == ExitCode.DONE
    report = LintReport.model_validate(json.loads(capsys.readouterr().out))
    assert report.findings == ()
    assert (report.kind, report.counts.entries) == ("checkout", 1)
    assert sorted((path / ".git").iterdir()) == before
    assert list((tmp_path / "home" / "work").iterdir()) == []


def test_the_text_says_what_and_what_to_do_and_errors_end_with_4(
    clean: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    good = clean.repository.head
    clean.put("A_X1/FlagScale/key.pem", PEM)
    clean.commit()
    path = str(clean.repository.path)
    assert dispatch("patch", ["lint", path]) == ExitCode.SOURCE
    out = capsys.readouterr().out
    assert "errors (1)\n  hardware/A_X1/FlagScale/key.pem:1: a private key (PEM)" in out
    assert "[private-key]\n    next: treat the key" in out
    assert out.splitlines()[-1].endswith("1 errors, 2 warnings, 0 notes")
    assert "MIIE" not in out
    assert dispatch("patch", ["lint", path, "--commit", good]) == ExitCode.DONE
    assert dispatch("patch", ["lint", path, "--commit", "f" * 40]) == ExitCode.SOURCE


def test_a_submodule_at_hand_is_looked_at(clean: Checkout, home: Path) -> None:
    folder = clean.repository.path / "third_party" / "vllm"
    folder.rmdir()
    vllm = new_repository(folder)
    pinned = vllm.commit({"core.py": b"a = 1\n"})
    clean.entry("V_X1/vllm", CHANGE, backends_commit={"vllm": pinned})
    clean.entry("W_X1/vllm", diff("new.py", b"x"), backends_commit={"vllm": pinned})
    found = clean.lint(home, clean.commit()).findings
    failed = [f for f in found if f.id == "patch-does-not-apply"]
    assert [f.path for f in failed] == ["hardware/V_X1/vllm"]
    assert "third_party/vllm/engine.py" in failed[0].message
    assert not [f for f in found if f.id == "submodule-not-at-hand"]


def _place() -> Place:
    return Place(partial("{}:{}".format, "p"))


@pytest.mark.parametrize(
    ("patch", "id_", "severity", "line"),
    [
        (diff("k.py", b"K = '''", *PEM.splitlines()), "private-key", "error", 7),
        (diff("k", b"AGE-SECRET-KEY-1" + b"Q" * 58), "private-key", "error", 6),
        (diff("conf/hostfile.txt", b"a", b"8.8.4.4 slots=8"), "address-in-hostfile", "error", 7),
        (diff("conf/hostfile", b"172.24.135.56"), "address-in-hostfile", "error", 6),
        (diff("conf/hostfile", b"x.x.x.x slots=8"), "hostfile-placeholder", "note", 6),
        (diff("c.yaml", b"dir: /run/10.1.15.112_rank0"), "address", "warning", 6),
        (diff("hardware/B_X1/vllm/a.patch.encrypted", b"x"), "foreign-sealed", "error", 1),
        (diff("hardware/A_X1/vllm/a.patch.encrypted", b"x"), "hardware-in-patch", "warning", 1),
        (diff("lib/core.cpython-310.so", b"x"), "built-binary", "warning", 1),
        (diff("profiling.py. and", b"x"), "leftover", "warning", 1),
        (diff("train.yaml.bak", b"x"), "leftover", "warning", 1),
        (diff("a/__pycache__/b.pyc", b"x"), "leftover", "warning", 1),
        (diff("run.sh", b"cd /share/project/somebody/x"), "personal-path", "warning", 6),
        (diff(".git/hooks/post-checkout", b"x"), "patch-unsafe-path", "error", 1),
        (b"no diff at all\n", "patch-no-diff", "error", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_should_not_be_published(
    patch: bytes, id_: str, severity: str, line: int | None
) -> None:
    (found,) = check_patch(patch, _place(), "hardware/A_X1/FlagScale")
    assert (found.id, found.severity, found.path) == (id_, severity, f"p:{line}")


@pytest.mark.parametrize(
    "patch",
    [
        GOOD,
        CHANGE,
        diff("k.py", b"MARK = '-----BEGIN PRIVATE KEY-----'", b"pass"),
        diff("requirements.txt", b"nvidia-curand==10.3.5.147", b"listen 127.0.0.1"),
        diff("conf/hostfile", b"0.0.0.0", b"node-1 slots=8", b"192.0.2.7"),
        diff("a.py", b"https://x.invalid/share/y", b"/usr/share/doc", b"${ROOT}/mnt/x"),
        b"diff --git a/x.so b/x.so\ndeleted file mode 100755\nindex 1..0\n",
        b"diff --git a/x.bak b/x.bak\n--- a/x.bak\n+++ b/x.bak\n@@ -1 +1 @@\n-a\n+b\n",
        CHANGE.replace(b"-engine line 0", b"-10.1.1.1 in hostfile"),
    ],
)
def test_what_may_be_published(patch: bytes) -> None:
    assert list(check_patch(patch, _place())) == []


@pytest.mark.parametrize(("size", "found"), [(544, 0), (543, 1), (528, 1), (545, 1), (2949440, 0)])
def test_the_size_of_a_sealed_file_tells_whether_it_can_be_whole(size: int, found: int) -> None:
    assert len(list(check_sealed("a.py.patch.encrypted", size, b"", _place()))) == found


def test_a_sealed_hostfile_is_known_by_its_name_and_a_pointer_by_its_text() -> None:
    start = b"version https://git-lfs.github.com/spec/v1\n"
    found = list(check_sealed("conf/hostfile.txt.patch.encrypted", 130, start, _place()))
    assert [f.id for f in found] == ["sealed-size", "hostfile-sealed"]
    assert "git-lfs pointer" in found[0].message


def test_superseded_entries_count_less_but_a_published_key_stays_published() -> None:
    patch = diff("hostfile", b"8.8.4.4", *PEM.splitlines()) + diff("a.bak", b"x")
    found = {f.id: f.severity for f in superseded(check_patch(patch, _place()))}
    assert found == {"private-key": "error", "address-in-hostfile": "warning", "leftover": "note"}
    assert list(superseded(check_patch(diff("hostfile", b"x.x.x.x"), _place()))) == []


def test_patches_are_read_with_their_lines_whatever_stands_in_them() -> None:
    mail = b"From " + b"a" * 40 + b" Mon Sep 17 00:00:00 2001\n\n+++ no file\n---\n"
    tricky = (
        b"diff --git a/a.md b/a.md\n--- a/a.md\n+++ b/a.md\n@@ -1,2 +1,2 @@\n"
        b"--- not a header\n+++ b/not a header either\n \n-- \n2.39\n"
    )
    plain = b"--- old/b.py\t2024\n+++ new/b.py\t2024\n@@ -1 +1 @@\n-a\n+b\n"
    quoted = b'diff --git "a/\\303\\274 x" "b/\\303\\274 x"\nrename from a\nrename to b\n'
    found = read_patch(mail + tricky + plain + plain.replace(b"b.py", b"c.py") + quoted)
    assert [t.path for t in found] == ["a.md", "b.py", "c.py", "ü x"]
    assert (found[0].text.lines, found[0].text.numbers) == ([b"++ b/not a header either"], [10])


def test_names_that_no_terminal_can_show_are_written_out() -> None:
    assert printable("a\nb\udcff\x1b[0m") == "a\\nb\\xff\\x1b[0m"


def _broken_series(root: Path) -> Iterator[tuple[str, str, str]]:
    """Writes the folder; yields what must be found in it."""
    write_patch_set(root, {"0001-good.patch": GOOD, "0002-same.patch": GOOD, "0003.patch": b""})
    (root / "unlisted.patch").write_bytes(CHANGE)
    (root / "old.bak").write_bytes(b"x")
    (root / "key").write_bytes(PEM)
    encoded = b"From " + b"a" * 40 + b" Mon Sep 17 00:00:00 2001\n"
    encoded += b"Content-Transfer-Encoding: base64\n\nbWVzc2FnZQ==\n---\n" + CHANGE
    (root / "0004.patch").write_bytes(encoded)
    (root / "folder").mkdir()
    (root / "link.patch").symlink_to("/etc/hostname")
    lines = ["0001-good.patch -p1", "../out.patch", "none.patch", "0004.patch -p0", "folder"]
    with (root / "series").open("ab") as series:
        series.write("\n".join([*lines, "link.patch"]).encode() + b"\n\xff\n")
    yield from [
        ("series-duplicate", "error", "series:4"),
        ("series-unsafe-path", "error", "series:5"),
        ("series-patch-missing", "error", "series:6"),
        ("series-line", "error", "series:7"),
        ("series-patch-missing", "error", "series:8"),
        ("series-unsafe-path", "error", "series:9"),
        ("series-line", "error", "series:10"),
        ("patch-no-diff", "error", "0003.patch"),
        ("patch-encoded", "error", "0004.patch"),
        ("patch-not-in-series", "warning", "unlisted.patch"),
        ("patch-duplicate", "warning", "0002-same.patch"),
        ("stray-file", "warning", "old.bak"),
        ("private-key", "error", "key:1"),
    ]


def test_every_problem_of_a_patches_folder_is_found(tmp_path: Path) -> None:
    expected = list(_broken_series(tmp_path / "set"))
    found = [(f.id, f.severity, f.path) for f in lint_series(tmp_path / "set").findings]
    assert sorted(found) == sorted(expected)


def test_a_folder_without_a_series_and_one_that_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_bytes(GOOD)
    found = [f.id for f in lint_series(tmp_path).findings]
    assert found == ["series-missing", "patch-not-in-series"]
    (tmp_path / "series").write_text("# nothing\n")
    found = [f.id for f in lint_series(tmp_path).findings]
    assert found == ["series-empty", "patch-not-in-series"]


def test_a_good_patches_folder_gives_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    folder = write_patch_set(tmp_path / "set", {"0001.patch": GOOD, "more/0002.patch": CHANGE})
    monkeypatch.chdir(folder)
    assert dispatch("patch", ["lint"]) == ExitCode.DONE
    assert "2 patches looked at; 0 errors, 0 warnings, 0 notes" in capsys.readouterr().out
    assert dispatch("patch", ["lint", str(folder), "--commit", "HEAD"]) == ExitCode.USAGE
    empty = tmp_path / "empty"
    empty.mkdir()
    assert dispatch("patch", ["lint", str(empty)]) == ExitCode.USAGE


def test_an_entry_of_spring_2025_is_known_for_what_it_is(clean: Checkout, tmp_path: Path) -> None:
    held, digits = clean.repository.head, clean.base[:7]
    rooted = GOOD.replace(b"vendor.py", b"flagscale/backends/vllm/vendor.py")
    content = {
        "backends_version": {"vllm": "0.7.2"},
        "contact": "",
        "device_type": "B_X1",
        "models": ["qwen3"],
        "task": ["inference"],
    }
    clean.put(f"B_X1/vllm/{digits}.patch", rooted)
    clean.put(f"B_X1/vllm/{digits}.yaml", yaml.safe_dump(content).encode())
    entry = clean.commit()
    clean.history(
        {
            "A_X1": {"train": {"FlagScale": [held]}},
            "B_X1": {"inference": {"vllm": [entry]}},
        }
    )
    (only,) = clean.lint(tmp_path / "home").findings
    assert (only.id, only.severity, only.path) == (
        "layout-early",
        "warning",
        "hardware/B_X1/vllm",
    )
    clean.put(f"B_X1/vllm/{digits}.patch", rooted.replace(b"new file mode 100644\n", b""))
    clean.repository.path.joinpath(f"hardware/B_X1/vllm/{digits}.yaml").unlink()
    clean.put(f"C_X1/vllm/{GONE[:7]}.patch", rooted)
    clean.put(f"C_X1/vllm/{GONE[:7]}.yaml", b"task: [inference]\n")
    clean.commit()
    found = {(one.id, one.path): one for one in clean.lint(tmp_path / "home").findings}
    assert "which task it is for" in found["diff-yaml-missing", "hardware/B_X1/vllm"].message
    assert found["patch-does-not-apply", "hardware/B_X1/vllm"].severity == "error"
    assert ("base-missing", f"hardware/C_X1/vllm/{GONE[:7]}.yaml") in found
    keys = found["diff-yaml-keys", f"hardware/C_X1/vllm/{GONE[:7]}.yaml"].message
    assert keys.endswith("backends_version, contact, device_type, models")
    assert not any(id_ == "stray-file" for id_, _path in found)


def test_an_entry_of_april_2025_is_known_and_tried_too(clean: Checkout, tmp_path: Path) -> None:
    clean.put(f"B_X1/train/vllm/{clean.base[:7]}.patch", CHANGE.rstrip(b"\n"))
    clean.put(f"C_X1/train/vllm/{clean.base[:7]}.patch", CHANGE.replace(b"-engine", b"-other"))
    clean.commit()
    found = {(one.id, one.path) for one in clean.lint(tmp_path / "home").findings}
    assert {one for one in found if one[0] != "entry-not-in-history"} == {
        ("layout-early", "hardware/B_X1/train"),
        ("layout-early", "hardware/C_X1/train"),
        ("patch-does-not-apply", "hardware/C_X1/train"),
    }
