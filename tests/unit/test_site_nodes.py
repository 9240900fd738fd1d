"""The hosts that a site lends to releases of several nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge import nodecheck
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.serving.site_nodes import site_hosts
from tests.unit.test_serving_nodes import SHARED, TWO
from tests.unit.test_serving_spec import release


def site(tmp_path: Path, **nodes: str) -> Site:
    (tmp_path / "two.yaml").write_text(TWO)
    (tmp_path / "one.yaml").write_text("kind: nodes\nnodes: [{name: only}]\n")
    return Site(nodes={name: Path(file) for name, file in nodes.items()}).read_from(
        tmp_path / "site.yaml"
    )


def test_a_release_of_one_node_is_served_here(tmp_path: Path) -> None:
    assert site_hosts(release({}), site(tmp_path)) is None


def test_the_release_comes_before_its_device(tmp_path: Path) -> None:
    made = release(SHARED)
    for names in ({made.device: "two.yaml"}, {made.name: "two.yaml", made.device: "one.yaml"}):
        found = site_hosts(made, site(tmp_path, **names))
        assert found is not None
        assert [host.name for host in found] == ["first", "second"]


def test_a_site_without_hosts_is_told_what_to_write(tmp_path: Path) -> None:
    made = release(SHARED)
    with pytest.raises(RelforgeError, match="2 nodes, and the site names none") as caught:
        site_hosts(made, site(tmp_path, another="two.yaml"))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert caught.value.where == str(tmp_path / "site.yaml")
    assert f"nodes: {{{made.name}: hosts.yaml}}" in str(caught.value.hint)
    finding = nodecheck.nodes(made, site(tmp_path))
    assert finding.state == "missing"
    assert "the site names none" in finding.found
    assert finding.remedy == caught.value.hint


@pytest.mark.parametrize(
    ("file", "said"),
    [("one.yaml", "runs on 2 nodes, and 1 are given"), ("none.yaml", "cannot read")],
)
def test_a_wrong_file_is_a_finding(tmp_path: Path, file: str, said: str) -> None:
    made = release(SHARED)
    finding = nodecheck.nodes(made, site(tmp_path, **{made.device: file}))
    assert finding.state == "missing"
    assert said in finding.found
    assert finding.remedy
