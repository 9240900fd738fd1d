"""``relforge init``: by options or on a terminal, it writes what passes ``check``, or nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.checking import check_project
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.starting.facts import told_at_once
from relforge.starting.sources import read_source
from relforge.starting.writing import Target, write_all
from tests.fakes.hub import FakeHub, Repo
from tests.support.terminal import on_terminal
from tests.support.weights import REVISION

CHECKOUT = Path(__file__).resolve().parents[2]
HAS_HUB = "RELFORGE_ALL_TESTS" in os.environ or importlib.util.find_spec("modelscope_hub")
BASIC = ("--device", "BI-V150", "--model", "tiny-adder", "--engine", "vllm")
NEW_MODEL = {
    "--model": "R1-INT4",
    "--summary": "DeepSeek-R1 in four bits.",
    "--license": "MIT",
    "--license-source": "its card",
    "--architecture": "DeepseekV3ForCausalLM",
    "--parameters": "671B",
    "--precision": "int4",
    "--base-model": "deepseek-ai/DeepSeek-R1",
}
ON_REQUEST = {"--weights": "on-request", "--weights-ask-for": "the INT4 weights of R1"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is no project."""
    monkeypatch.setenv("RELFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RELFORGE_SITE", raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def words(*given: dict[str, str], **changes: str | None) -> list[str]:
    """Options of a release of a new model on bi_V150."""
    options: dict[str, str | None] = {"--out": ".", "--device": "bi_V150", "--engine": "vllm"}
    for part in given:
        options |= part
    options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [word for option, value in options.items() if value for word in (option, value)]


def manifest(root: Path, kind: str, name: str) -> Any:
    return yaml.safe_load((root / "manifests" / f"{kind}s" / f"{name}.yaml").read_text())


def faults(root: Path) -> list[str]:
    report = check_project(Project((root, builtin_root())), Site())
    return [fault.message for fault in report.faults]


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_options_alone_make_a_release_and_its_model(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = dispatch(
        "init", words(NEW_MODEL, ON_REQUEST, tensor_parallel="8", data_parallel="2", nodes="2")
    )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    name = "R1-INT4-bi_V150"
    assert [Path(line).name for line in shown.out.splitlines()] == ["R1-INT4.yaml", f"{name}.yaml"]
    assert f"next: relforge lock --release {name}" in shown.err
    (only,) = faults(here)
    assert only.startswith(f"{name} has no lock")
    release, model = manifest(here, "release", name), manifest(here, "model", "R1-INT4")
    assert release["title"] == "R1-INT4 on Iluvatar BI-V150 with vLLM"
    serve = release["serve"]
    assert [serve[f"{kind}_parallel"] for kind in ("tensor", "data")] == [8, 2]
    assert (serve["nodes"], serve["network"]) == (2, "host")
    assert model["parameters"] == 671_000_000_000
    assert model["base_model_relation"] == "quantized"
    assert model["weights"]["contact"] == "services@iluvatar.com"
    for kind, file in (("release", name), ("model", "R1-INT4")):
        text = (here / "manifests" / f"{kind}s" / f"{file}.yaml").read_text()
        first = f"# yaml-language-server: $schema=../schema/{kind}.schema.json"
        assert text.startswith(f"{first}\n")
        assert (here / "manifests" / "schema" / f"{kind}.schema.json").is_file()
        assert "Fill in" in text


@pytest.mark.parametrize("engine", ["vllm", "flagscale", "sglang", "paddlenlp"])
@pytest.mark.parametrize("device", ["ascend_a3", "cpu_x86", "kunlunxin", "nvidia_h100"])
def test_each_engine_on_a_device_lacks_its_lock_alone(
    here: Path, engine: str, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or what the engine itself cannot do there, which is told before anything is written."""
    code = dispatch(
        "init", words({"--model": "tiny-adder"}, engine=engine, device=device, variant="v")
    )
    assert code == 0, capsys.readouterr().err
    (only,) = faults(here)
    assert "has no lock" in only


def test_missing_answers_are_named_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch("init", []) == ExitCode.USAGE
    assert "missing: --out, --device, --model, --engine" in capsys.readouterr().err
    given = words({"--model": "new"}, license="MIT", engine="command")
    assert dispatch("init", given) == ExitCode.USAGE
    told = capsys.readouterr().err
    named = "--summary, --license-source, --architecture, --parameters, --precision, --weights"
    assert f"missing: {named}, --command" in told
    assert everything(here) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "BI-V15"}, "--device 'BI-V15' cannot be used"),
        ({"engine": "abacus"}, "choose one of vllm"),
        ({"port": "99999"}, "--port '99999' cannot be used"),
        ({"precision": "int8"}, "contradicts the name R1-INT4"),
        ({"license": "unknown"}, "is no licence"),
        ({"base_model": "o/base", "base_license": "Llama-3.3"}, "is under Llama-3.3"),
        ({"tensor_parallel": "16", "nodes": "3"}, "3 nodes cannot share 16 evenly"),
        ({"engine": "sglang", "data_parallel": "2", "nodes": "2"}, "SGLang refuses --dp-size"),
        ({"image": "ubuntu"}, "write it with its registry"),
        ({"image": "h/n:1", "image_source": "a page", "source": "x"}, "--source does not belong"),
        ({"source": "https://git.example/x.git@abc"}, "commit: String should match"),
        ({"weights_repository": "a/b"}, "--weights-repository does not belong"),
        ({"task": "task.yaml"}, "--task does not belong"),
        ({"stack": "corex4.4.0"}, "--stack does not belong"),
    ],
)
def test_a_wrong_answer_is_named_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    assert dispatch("init", words(NEW_MODEL, ON_REQUEST, **changes)) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert everything(here) == []


def test_nothing_is_overwritten_unasked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ["--out", ".", *BASIC]
    assert dispatch("init", again) == 0
    path = here / "manifests" / "releases" / "tiny-adder-bi_V150.yaml"
    mine = path.read_text() + "# mine\n"
    path.write_text(mine)
    capsys.readouterr()
    assert dispatch("init", again) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert "tiny-adder-bi_V150.yaml is there already" in told
    assert "--force" in told
    assert path.read_text() == mine
    assert dispatch("init", [*again, "--variant", "other"]) == 0
    assert dispatch("init", [*again, "--force"]) == 0
    assert "# mine" not in path.read_text()


def test_a_failed_write_leaves_the_project_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("old\n")
    (tmp_path / "file").write_text("")
    files = {
        tmp_path / "old.yaml": b"new\n",
        tmp_path / "manifests" / "models" / "a.yaml": b"a\n",
        tmp_path / "file" / "b.yaml": b"no folder\n",
    }
    with pytest.raises(RelforgeError):
        write_all(files)
    assert everything(tmp_path) == ["file", "old.yaml"]
    assert (tmp_path / "old.yaml").read_text() == "old\n"


def test_unknown_facts_of_the_device_are_told_at_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project((builtin_root(),))
    needed, others = told_at_once(project.device("spacemit"))
    assert "architecture" not in needed
    assert "stacks/spacemit/base, launch_profiles of spacemit" in needed
    assert "manifests/devices/spacemit.yaml" in needed
    assert "device_query/count" in others
    assert list(told_at_once(project.device("cpu_x86"))) == []
    assert dispatch("init", words({"--model": "tiny-adder"}, device="spacemit")) == 0
    assert needed in capsys.readouterr().err
    assert any("stacks/spacemit/base is unknown" in fault for fault in faults(here))


def test_the_stack_of_a_device_with_several_can_be_chosen(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = {"--model": "tiny-adder"}
    assert dispatch("init", words(on, device="ascend_a3", variant="old", stack="cann8.5.0")) == 0
    assert "stacks/cann8.5.0/base/registry/digest" in capsys.readouterr().err
    release = manifest(here, "release", "tiny-adder-ascend_a3-old")
    assert release["stack"] == "cann8.5.0"
    text = (here / "manifests" / "releases" / "tiny-adder-ascend_a3-old.yaml").read_text()
    assert "# The stack cann8.5.0 has torch==2.9.0+cpu" in text
    assert dispatch("init", words(on, device="ascend_a3", stack="cann9.0.0")) == 0
    assert "stack" not in manifest(here, "release", "tiny-adder-ascend_a3"), "its default"


def test_local_weights_are_hashed_and_a_task_becomes_the_gate(here: Path) -> None:
    shutil.copytree(CHECKOUT / "examples" / "hello", here, dirs_exist_ok=True)
    options = {
        **{name: value for name, value in NEW_MODEL.items() if name != "--base-model"},
        "--model": "again",
        "--precision": "float32",
        "--weights": "local",
        "--weights-path": "model",
    }
    serve = "python3 -m hello_server --model {model_path} --port {port}"
    assert dispatch("init", words(options, engine="command", device="cpu_x86", command=serve)) == 0
    made = manifest(here, "model", "again")
    assert made["weights"] == manifest(here, "model", "hello")["weights"]
    release = manifest(here, "release", "again-cpu_x86")
    assert release["serve"]["command"] == serve.split()
    assert "evaluation" not in release
    known = words({"--model": "hello"}, engine="command", device="cpu_x86", command=serve)
    assert dispatch("init", [*known, "--variant", "two", "--task", "task.yaml"]) == 0
    gate = manifest(here, "release", "hello-cpu_x86-two")["evaluation"]
    assert gate == {"task": "task.yaml", "questions": 500, "margin_points": 2}
    assert [fault.split(" (")[0] for fault in faults(here)] == [
        "again-cpu_x86 has no lock",
        "hello-cpu_x86-two has no lock",
    ]


@pytest.mark.skipif(not HAS_HUB, reason="extra 'hub' is not installed")
@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_files_on_a_hub_are_pinned_as_relforge_weights_pins_them(
    here: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {".gitattributes": b"x", "config.json": b"{}", "model.safetensors": b"m" * 5000}
    with FakeHub({"o/m": Repo({REVISION: files}, large=("model.safetensors",))}) as hub:
        site = tmp_path / "site.yaml"
        endpoint = {"endpoint": hub.url}
        site.write_text(json.dumps({"hubs": {"huggingface": endpoint, "modelscope": endpoint}}))
        weights = {
            "--weights": kind,
            "--weights-repository": "o/m",
            "--weights-revision": REVISION,
            "--site": str(site),
        }
        code = dispatch("init", words(NEW_MODEL, weights))
        assert code == 0, capsys.readouterr().err
        assert "model.safetensors" not in {sent.path for sent in hub.sent}, "its hash is listed"
        local = tmp_path / "files"
        local.mkdir()
        (local / "config.json").write_bytes(b"{}")
        asked = len(hub.asked)
        renamed = {"--model": "R1-int4", "--weights-folder": str(local)}
        assert dispatch("init", words(NEW_MODEL, weights, renamed)) == 0
        assert len(hub.asked) == asked, "what is hashed here is asked nobody"
    pinned = manifest(here, "model", "R1-INT4")["weights"]["files"]
    assert sorted(pinned) == ["config.json", "model.safetensors"]
    assert pinned["model.safetensors"]["size_bytes"] == 5000
    assert manifest(here, "model", "R1-int4")["weights"]["files"] == {
        "config.json": pinned["config.json"]
    }


@pytest.mark.skipif(not HAS_HUB, reason="extra 'hub' is not installed")
def test_a_hub_that_does_not_answer_leaves_nothing_behind(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"hubs": {"huggingface": {"endpoint": "http://127.0.0.1:9"}}}))
    weights = {"--weights": "huggingface", "--weights-repository": "o/m"}
    given = words(NEW_MODEL, weights, weights_revision=REVISION, site=str(site))
    assert dispatch("init", given) in (ExitCode.SOURCE, ExitCode.ENVIRONMENT)
    assert everything(here) == []


def test_weights_that_nobody_pinned_yet_and_those_of_a_server_are_said_to_be_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = {"--weights": "huggingface", "--weights-repository": "o/m"}
    assert dispatch("init", words(NEW_MODEL, hub, weights_revision="unresolved")) == 0
    assert manifest(here, "model", "R1-INT4")["weights"] == {
        "kind": "huggingface",
        "repository": "o/m",
        "revision": "unresolved",
    }
    server = {"--weights": "by-server", "--weights-what": "a graph", "--weights-source": "a page"}
    renamed = {"--model": "R1-int4"}
    assert dispatch("init", words(NEW_MODEL, server, renamed)) == 0, capsys.readouterr().err
    assert manifest(here, "model", "R1-int4")["weights"]["what"] == "a graph"


def test_the_stacks_packages_come_with_a_source(here: Path) -> None:
    given = words({"--model": "tiny-adder"}, source=f"https://git.example/vllm.git@{'a' * 40}")
    assert dispatch("init", given) == 0
    build = manifest(here, "release", "tiny-adder-bi_V150")["build"]
    (package,) = build["packages"]
    assert package == {"source": "vllm", "distribution": "vllm", "native": {"mode": "none"}}
    stack = Project((builtin_root(),)).device("bi_V150").stack
    assert build["python"]["with_stack"] == (stack.environment is None)


def test_sources_on_one_line() -> None:
    commit, sha256 = "a" * 40, "b" * 64
    git = read_source(f"https://git.example/FlagScale.git@{commit}")
    assert (git.name, git.spec.kind) == ("FlagScale", "git")
    sdist = read_source(f"vllm==0.32.0#sha256={sha256}")
    wheel = read_source(f"wheel:flag_gems==5.0.2#sha256={sha256}")
    assert (sdist.name, sdist.spec.kind, wheel.spec.kind) == ("vllm", "archive", "wheel")
    for wrong in ("vllm", f"vllm==1#sha256={'b' * 63}", f"https://u:p@git.example/x@{commit}"):
        with pytest.raises(ValueError, match=r"write it as|String should|user name"):
            read_source(wrong)


def test_a_project_elsewhere_names_the_schemas_that_its_manifests_name() -> None:
    assert Target(CHECKOUT / "examples" / "hello").schemas == "../../../../manifests/schema/"
    assert Target(CHECKOUT / "examples" / "hello").schema_files() == {}
    assert Target(CHECKOUT).schemas == "../schema/"
    assert Target(CHECKOUT).schema_files() == {}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(CHECKOUT), "RELFORGE_HOME": str(tmp_path / "home")}


def test_on_a_terminal_it_asks_until_the_answers_fit(here: Path, env: dict[str, str]) -> None:
    with on_terminal("init", cwd=here, env=env) as terminal:
        terminal.answer(r"no project here. Make one in .*\?", "y")
        terminal.expect(r"devices: ascend_a2, .*tsingmicro")
        terminal.answer("Device, by name or alias", "BI-V15")
        terminal.expect("Error: unknown device 'BI-V15'; did you mean 'bi_V150'?")
        terminal.answer("Device, by name or alias", "BI-V150")
        terminal.answer("Model, a known one or a new name", "R1-INT4")
        terminal.answer("Engine", "sglang")
        terminal.answer("Variant", "")
        terminal.expect("note: nobody is known to tell stacks/corex4.4.0/base/registry/digest")
        terminal.answer(r"Title of the model \[R1-INT4\]", "")
        terminal.answer("in a sentence", "DeepSeek-R1 in four bits.")
        terminal.answer("Licence of the weights", "MIT")
        terminal.answer("Where that stands", "its card")
        terminal.answer("Architecture", "DeepseekV3ForCausalLM")
        terminal.answer("Parameters", "many")
        terminal.expect("Error: write a number, such as 671000000000 or 671B")
        terminal.answer("Parameters", "671B")
        terminal.answer("Precision", "int8")
        terminal.answer("Model that it was made of", "deepseek-ai/DeepSeek-R1")
        terminal.answer(r"What was done to that .*\[quantized\]", "")
        terminal.answer(r"Licence of that \[MIT\]", "")
        terminal.answer("Languages", "en, zh")
        terminal.answer("Where the weights are", "on-request")
        terminal.answer("Folder here with the same files", "")
        terminal.answer(r"Whom to ask for them \[services@iluvatar.com\]", "")
        terminal.answer("What to ask for", "the INT4 weights of R1")
        terminal.expect("Error: precision int8 contradicts the name R1-INT4")
        terminal.answer("Precision", "int4")
        terminal.answer(r"Title \[R1-INT4 on Iluvatar BI-V150 with SGLang\]", "")
        terminal.answer("Somebody else's image", "")
        terminal.answer("Source of the engine", "")
        terminal.answer(r"Name under which the model is served \[R1-INT4\]", "")
        terminal.answer(r"Port \[8000\]", "80000")
        terminal.expect("Error: Input should be less than or equal to 65535")
        terminal.answer("Port", "8001")
        terminal.answer(r"Accelerators that share one copy .*\[1\]", "16")
        terminal.answer("Copies of the model", "2")
        terminal.answer("Nodes that share them", "3")
        terminal.expect("Error: 3 nodes cannot share 32 evenly")
        terminal.answer("Nodes that share them", "2")
        terminal.expect("Error: .*SGLang refuses --dp-size above 1 with --nnodes above 1")
        terminal.answer("Copies of the model", "1")
        terminal.answer("Nodes that share them", "2")
        terminal.expect("next: relforge lock --release R1-INT4-bi_V150")
        assert terminal.end() == 0, terminal.shown
    model = manifest(here, "model", "R1-INT4")
    assert (model["precision"], model["languages"]) == ("int4", ["en", "zh"])
    assert manifest(here, "release", "R1-INT4-bi_V150")["serve"]["port"] == 8001
    assert [fault.split(" (")[0] for fault in faults(here)] == ["R1-INT4-bi_V150 has no lock"]


def test_options_answer_ahead_of_the_terminal(here: Path, env: dict[str, str]) -> None:
    (here / "manifests").mkdir()
    with on_terminal("init", *BASIC, "--variant", "a", cwd=here, env=env) as terminal:
        terminal.answer("Title", "Mine")
        terminal.answer("Somebody else's image", "registry.example/vllm-bi:1")
        terminal.answer("Where it says that this is the image", "the vendor's page")
        terminal.answer("Name under which", "")
        terminal.answer("Port", "")
        terminal.answer("Accelerators", "")
        terminal.answer("Copies", "")
        terminal.answer("Evaluation task", "nothing.yaml")
        terminal.expect("Error: the project has no nothing.yaml")
        terminal.answer("Evaluation task", "examples/tasks/tiny_adder_addition.yaml")
        assert terminal.end() == 0, terminal.shown
    assert "Device, by name" not in terminal.shown
    release = manifest(here, "release", "tiny-adder-bi_V150-a")
    assert release["title"] == "Mine"
    assert release["evaluation"]["questions"] == 1993
    image = {"reference": "registry.example/vllm-bi:1", "digest": "unresolved"}
    assert release["build"] == {"image": {"registry": image, "source": "the vendor's page"}}


@pytest.mark.parametrize("keys", [b"\x03", b"\x04"], ids=["ctrl-c", "end of input"])
def test_whoever_gives_up_in_the_middle_leaves_nothing_behind(
    here: Path, env: dict[str, str], keys: bytes
) -> None:
    with on_terminal("init", cwd=here, env=env) as terminal:
        terminal.answer("Make one in", "y")
        terminal.answer("Device", "bi_V150")
        terminal.answer("Model", "tiny-adder")
        terminal.expect("Engine .*: ")
        terminal.press(keys)
        terminal.expect("nothing was written")
        assert terminal.end() == ExitCode.INTERRUPTED
    assert everything(here) == []


def test_no_project_is_made_of_a_folder_unasked(here: Path, env: dict[str, str]) -> None:
    with on_terminal("init", *BASIC, cwd=here, env=env) as terminal:
        terminal.answer("Make one in", "n")
        terminal.expect("nothing was written")
        assert terminal.end() == ExitCode.INTERRUPTED
    assert everything(here) == []


@pytest.mark.timeout(300)
def test_what_is_made_locks_and_then_has_no_fault(
    here: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    """The way that a person goes: init, lock, check, plan."""
    shutil.copytree(CHECKOUT / "examples" / "hello", here, dirs_exist_ok=True)
    served = tmp_path / "git" / "hello.git"
    served.parent.mkdir()
    make: list[str | Path] = [sys.executable, here / "make_repo.py", served]
    made = subprocess.run(make, check=True, capture_output=True, text=True)
    commit = made.stdout.split()[-1]

    def relforge(*given: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from relforge.cli import main; main()", *given],
            cwd=here, env={**os.environ, **env}, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    serve = "python3 -m hello_server --model {model_path} --port {port}"
    source = f"file://{served}@{commit}"
    relforge("init", *words({"--model": "hello"}, engine="command", device="cpu_x86",
                            command=serve, variant="made", source=source))  # fmt: skip
    relforge("lock", "--release", "hello-cpu_x86-made")
    assert " 0 faults" in relforge("check")
    assert "hello-cpu_x86-made" in relforge("plan", "--release", "hello-cpu_x86-made")


def test_no_device_of_the_fleet_breaks_the_dialog(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    devices: dict[str, Device] = Project((builtin_root(),)).devices
    for name in devices:
        code = dispatch("init", words({"--model": "tiny-adder"}, device=name, variant="x"))
        assert code == 0, capsys.readouterr().err
