"""docs/evaluation.md: commands print what stands below them, and figures are those of the code."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
import yaml
from scipy.stats import binom
from statsmodels.stats.proportion import test_proportions_2indep as miettinen_nurminen

from relforge.cli.dispatch import dispatch
from relforge.evaluation.statistics.datasets import DATASETS
from relforge.evaluation.statistics.figures import possible_k, printed
from relforge.manifest.evaluation import Evaluation
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.reference import ReferenceFigure
from relforge.manifest.weights import Reported
from tests.support.chances import of_pairs, of_shares, of_two_samples
from tests.support.doc_blocks import marked

TEXT = (builtin_root() / "docs" / "evaluation.md").read_text()
COMMAND = r"^```bash\n(relforge eval compare [^\n]*)\n```\n\n"
PRINTED = r"(?:```\n([^`]*)```\n|((?:\|[^\n]*\n)+\noverall: [^\n]*\n))"
YAML = re.findall(r"^```yaml\n(.*?)```", TEXT, re.M | re.S)
SHOWN = re.findall(COMMAND + PRINTED, TEXT, re.M)


def table(heading: str) -> list[list[str]]:
    """The rows of the table with this head."""
    below = TEXT[TEXT.index(heading) :].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in below.split("\n")[2:]]


@pytest.mark.parametrize(("command", "sentence", "rows"), SHOWN)
def test_each_command_prints_what_stands_below_it(
    command: str,
    sentence: str,
    rows: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(builtin_root())
    words = shlex.split(command)
    assert words[:2] == ["relforge", "eval"]
    assert dispatch("eval", words[2:]) == 6
    assert capsys.readouterr().out == sentence + rows


def test_the_commands_are_all_that_the_page_shows() -> None:
    commands = [block.text.strip() for block in marked("docs/evaluation.md", __file__)]
    assert commands == [command for command, _, _ in SHOWN]


def test_all_eighteen_rows_of_the_seed_cards_are_shown() -> None:
    assert len(SHOWN) == 4
    rows = [row for _, _, shown in SHOWN for row in shown.split("\n")[2:] if row.startswith("|")]
    assert len(rows) == 18
    assert len({row.split("|")[1] for row in rows}) == 6


def test_the_manifests_that_are_shown_can_be_read() -> None:
    shown = [Evaluation.model_validate(yaml.safe_load(text)["evaluation"]) for text in YAML]
    assert [len(one.each) for one in shown] == [1, 2]


def test_the_assumed_sizes_are_those_of_the_code() -> None:
    assert table("| task | assumed n | which part |") == [
        [one.name, str(one.n), one.part] for one in DATASETS
    ]


def test_the_chances_are_those_of_the_code() -> None:
    cases = table("| truth | n | verdict |")
    assert len(cases) == 4
    for truth, n, verdict, *shown in cases:
        shares = re.search(r"([\d.]+) % (?:of the answers )?lost, ([\d.]+) % won", truth)
        assert shares is not None
        lost, won = (float(share) / 100 for share in shares.groups())
        field = verdict.replace("-", "_")
        chances = [of_pairs(int(n), lost=lost, won=won)] + [
            of_shares(int(n), accuracy=accuracy, lost=lost, won=won) for accuracy in (0.95, 0.8)
        ]
        assert [f"{100 * getattr(one, field):.1f} %" for one in chances] == shown


def test_the_c_eval_figures_are_those_of_its_validation_part() -> None:
    project = Project((builtin_root(),))
    figures: list[ReferenceFigure | Reported] = []
    for name in project.reference_files:
        figures.extend(project.reference(name).figures)
    for name in project.release_files:
        figures.extend(project.release(name).reported)
    values = {str(one.value) for one in figures if one.task == "C-Eval"}
    assert len(values) == 5
    # 89.00 was printed with two decimals, which a number does not keep.
    exact = [printed(f"{float(value):.2f}") for value in values]
    fits = [n for n in range(200, 2001) if all(possible_k(*one, n) is not None for one in exact)]
    assert fits == [1346, 1364, 1382]
    assert "of other n\nfrom 200 to 2,000 only 1,364 and 1,382 can give all five" in TEXT


def test_newcombe_condemns_less_often_than_miettinen_and_nurminen_near_100_percent() -> None:
    """The reason to take it, with n = 198 and a true loss of just 2 points from 99.5 %."""
    n, accuracy = 198, 0.995
    condemned = 0.0
    for before in range(189, n + 1):
        for after in range(180, n + 1):
            with np.errstate(all="ignore"):  # at 100 % it computes odds, too
                tested = miettinen_nurminen(
                    after, n, before, n, value=-0.02, method="score", alternative="smaller"
                )
            chance = binom.pmf(before, n, accuracy) * binom.pmf(after, n, accuracy - 0.02)
            condemned += chance * (tested.pvalue < 0.025)
    assert round(condemned, 2) == 0.05
    assert round(of_two_samples(n, accuracy=accuracy, loss=0.02).inferior, 2) == 0.01
