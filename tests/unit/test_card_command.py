"""`relforge card`: files for each release, kept text, and a check that finds what is stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root

RELEASE = "tiny-adder-cpu_x86"
Card = Callable[..., int]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    monkeypatch.chdir(builtin_root())
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\ndist: dist\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))

    def run(*words: str) -> int:
        return dispatch("card", ["--release", RELEASE, "--out", str(tmp_path / "cards"), *words])

    return run


def test_both_languages_are_written_and_writing_again_changes_nothing(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card() == 0
    folder = tmp_path / "cards" / RELEASE
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(folder / "README.md"), str(folder / "README_zh.md")]
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert card() == 0
    assert "nothing changed" in capsys.readouterr().err
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before
    assert "## 运行方法" in (folder / "README_zh.md").read_text()


def test_one_language_for_another_hub(card: Card, tmp_path: Path) -> None:
    assert card("--lang", "zh", "--target", "github") == 0
    folder = tmp_path / "cards" / RELEASE
    assert [path.name for path in folder.iterdir()] == ["README_zh.md"]
    assert (folder / "README_zh.md").read_text().startswith("# tiny-adder")


def test_text_of_people_survives_and_the_rest_is_written_anew(card: Card, tmp_path: Path) -> None:
    card()
    path = tmp_path / "cards" / RELEASE / "README.md"
    text = path.read_text()
    mine = "Tell us how you use it: the forum is open.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    edited = text.replace(
        "<!-- relforge:free running -->\n", f"<!-- relforge:free running -->\n{mine}\n"
    ).replace("# tiny-adder", "# Tiny Adder")
    path.write_text(edited)
    assert card() == 0
    again = path.read_text()
    assert f"<!-- relforge:free running -->\n{mine}\n<!-- relforge:end running -->" in again
    assert "# Tiny Adder" not in again
    assert card("--check") == 0, "edits in the blocks are not stale"


WRITTEN = [
    "One sentence a line.\nThe next one, with a hard break.  \nAnd a third.",
    "\nBlank lines around.\n\n\nAnd two between.\n",
    "~~~text\nOne line.\nAnother.\n\n\nAfter two blanks.\n~~~",
    "````markdown\n```bash\nls.\n```\n\nStill code.\nStill.\n````",
    "    Code by its indent.\n    More of it.",
    "```markdown\n<!-- relforge:free running -->\n<!-- relforge:end limits -->\n```\n\nMore.",
    "~~~\n<!-- relforge:end limits -->\n```\n<!-- relforge:end running -->\n~~~",
    "A separator\u2028in the middle of a line.",
]


@pytest.mark.parametrize("mine", WRITTEN)
def test_every_line_that_people_wrote_is_kept_as_it_is(
    card: Card, tmp_path: Path, mine: str
) -> None:
    card("--lang", "en")
    path = tmp_path / "cards" / RELEASE / "README.md"
    begin = "<!-- relforge:free limits -->\n"
    written = path.read_text().replace(begin, f"{begin}{mine}\n")
    path.write_text(written)
    assert card("--lang", "en", "--check") == 0
    path.write_text(written.replace("256 tokens", "4096 tokens"))
    assert card("--lang", "en") == 0
    assert path.read_text() == written


def test_fenced_code_that_does_not_end_is_refused(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card("--lang", "en")
    path = tmp_path / "cards" / RELEASE / "README.md"
    begin = "<!-- relforge:free limits -->\n"
    written = path.read_text().replace(begin, f"{begin}```bash\nls\n")
    path.write_text(written)
    assert card("--lang", "en") == 6
    said = capsys.readouterr().err
    assert "the block 'limits' does not end" in said
    assert "within fenced code they are text" in " ".join(said.split())
    assert path.read_text() == written


def test_a_card_that_is_no_utf8_is_left_alone(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card("--lang", "en")
    path = tmp_path / "cards" / RELEASE / "README.md"
    written = path.read_bytes().replace(b"Known limits", b"Known \xfcber limits")
    path.write_bytes(written)
    assert card("--lang", "en") == 6
    assert "is not UTF-8" in capsys.readouterr().err
    assert path.read_bytes() == written


def test_outside_of_a_project_nothing_is_written_into_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch("card", ["--release", RELEASE]) == 2
    assert "there is no project here to write into" in capsys.readouterr().err
    assert not (builtin_root() / "cards").exists()
    assert dispatch("card", ["--release", RELEASE, "--out", "cards"]) == 0
    assert (tmp_path / "cards" / RELEASE / "README.md").is_file()


def test_other_line_ends_are_said_to_be_all_that_differs(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card("--lang", "en")
    path = tmp_path / "cards" / RELEASE / "README.md"
    written = path.read_bytes()
    path.write_bytes(written.replace(b"\n", b"\r\n"))
    capsys.readouterr()
    assert card("--lang", "en", "--check") == 6
    assert f"{path}: differs in its line ends alone" in capsys.readouterr().err
    assert card("--lang", "en") == 0
    assert path.read_bytes() == written


def test_a_card_that_cannot_be_written_does_not_hide_the_others(
    tmp_path: Path, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = "deepseek-r1-int4-bi_V150", "deepseek-r1-nvidia_h100-vllm"
    both = ("--release", first, "--release", second, "--lang", "en")
    assert card(*both) == 0
    for name in (first, second):
        path = tmp_path / "cards" / name / "README.md"
        path.write_text(path.read_text() + "<!-- relforge:free limits -->\n")
    path = tmp_path / "cards" / RELEASE / "README.md"
    path.write_text(path.read_text().replace("256 tokens", "4096 tokens"))
    capsys.readouterr()
    assert card(*both, "--check", "--json") == 6
    said = capsys.readouterr()
    assert [one["release"] for one in json.loads(said.out)["cards"]] == [RELEASE]
    assert "+| Longest context | 256 tokens |" in said.err
    for name in (first, second):
        assert f"cards/{name}/README.md:" in said.err


def test_a_stale_card_is_shown_line_by_line_and_exits_6(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card()
    path = tmp_path / "cards" / RELEASE / "README.md"
    stale = path.read_text().replace("256 tokens", "4096 tokens")
    path.write_text(stale)
    capsys.readouterr()
    assert card("--check", "--json") == 6
    said = capsys.readouterr()
    assert "-| Longest context | 4096 tokens |" in said.err
    assert "+| Longest context | 256 tokens |" in said.err
    (found,) = json.loads(said.out)["cards"]
    assert found["stale"] == ["README.md"]
    assert path.read_text() == stale, "a check writes nothing"


def test_a_card_that_is_not_there_is_stale(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card("--check") == 6
    assert "README.md: is not there" in capsys.readouterr().err
    assert not (tmp_path / "cards").exists()


def test_the_published_card_is_checked_where_no_other_is(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card()
    (tmp_path / "dist").mkdir()
    (tmp_path / "cards" / RELEASE).rename(tmp_path / "dist" / RELEASE)
    assert card("--check") == 0
    path = tmp_path / "dist" / RELEASE / "README_zh.md"
    path.write_text(path.read_text() + "\n更多。\n")
    capsys.readouterr()
    assert card("--check") == 6
    assert f"--- {path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("<!-- relforge:end running -->\n", "", "'running' of line"),
        ("<!-- relforge:free running -->\n", "<!-- relforge:free walking -->\n", "'walking'"),
        ("<!-- relforge:free limits -->\n", "", "did not begin"),
    ],
)  # fmt: skip
def test_text_that_could_be_lost_stops_the_writing(
    card: Card, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, why: str
) -> None:
    card()
    path = tmp_path / "cards" / RELEASE / "README.md"
    broken = path.read_text().replace(old, new)
    path.write_text(broken)
    capsys.readouterr()
    assert card() == 6
    said = capsys.readouterr().err
    assert why in said
    assert f"{path}:" in said
    assert path.read_text() == broken


@pytest.mark.parametrize(
    ("words", "code"), [(["--lang", "de"], 2), (["--validate", "--target", "github"], 2)]
)
def test_wrong_words(card: Card, words: list[str], code: int) -> None:
    assert card(*words) == code
