"""BuildKit's own check, by the engine that is here: its answer, or that it is too old for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.checking.buildcheck import answers
from relforge.engine.cli import DockerCli, EngineFacts
from relforge.errors import RelforgeError
from relforge.manifest.site import EngineSite

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE} as system
RUN --mount=type=bind,from=tools,target=/tools true
"""


def test_it_says_what_is_wrong_or_that_it_is_too_old(
    cli: DockerCli, facts: EngineFacts, tmp_path: Path
) -> None:
    (tmp_path / "0").write_text(DOCKERFILE)
    (tmp_path / "1").write_text(DOCKERFILE.replace("RUN", "RUNN"))
    buildx = tuple(map(int, cli.buildx_version.split("+")[0].split(".")[:2]))
    too_old = buildx < (0, 16) or int(facts.server_version.split(".")[0]) < 27
    asked = {"0": ("tools",), "1": ("tools",)}
    if too_old:
        with pytest.raises(RelforgeError, match="too old"):
            answers(tmp_path, asked, EngineSite())
        return
    found = answers(tmp_path, asked, EngineSite())
    assert {(remark.rule, remark.line) for remark in found["0"].remarks} == {
        ("FromAsCasing", 2),
        ("InvalidDefaultArgInFrom", 2),
    }
    broken = {(remark.line, remark.message) for remark in found["1"].remarks}
    assert (
        3,
        "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)",
    ) in broken
    assert {answer.unknown for answer in found.values()} == {None}
