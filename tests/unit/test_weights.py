"""Weights: what manifests and the site configuration say of them, and folders on this host."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.record import _portable
from relforge.evidence.store import Store
from relforge.executor.local import LocalExecutor
from relforge.frozen import content_key
from relforge.manifest.loader import load
from relforge.manifest.model import Model
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from relforge.manifest.site_file import load_site
from relforge.pipeline import STAGES
from relforge.plan import make_plan, subject
from relforge.running.runner import Runner
from relforge.stages.weights import Weights
from relforge.weights.store import WeightStore
from tests.support.weights import Toy, from_hub, model, pins, planned, result_of, run, served

FILES = {"config.json": b"{}", "sub/part.bin": b"weights"}
ASK = {"kind": "on-request", "contact": "models@vendor.example", "ask_for": "the INT4 weights"}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def on_request(tmp_path: Path, *, pinned: bool, folder: Path | None = None) -> Toy:
    weights: dict[str, Any] = {**ASK, "files": pins(FILES)} if pinned else dict(ASK)
    return Toy(model(weights), Site(weights={"toy": folder} if folder else {}), tmp_path)


# ------------------------------------------------------------------- manifests


@pytest.mark.parametrize(
    ("kind", "changes", "where"),
    [
        ("huggingface", {"revision": "a" * 39}, "revision"),
        ("huggingface", {"revision": "main"}, "revision"),
        ("modelscope", {"revision": "master"}, "revision"),
        ("huggingface", {"repository": "only-a-name"}, "repository"),
        ("huggingface", {"repository": "../up/down"}, "repository"),
        ("huggingface", {"files": {}}, "files"),
        ("huggingface", {"files": {"../out": {"sha256": "0" * 64, "size_bytes": 1}}}, "files"),
        ("huggingface", {"files": {"a": {"sha256": "0" * 63, "size_bytes": 1}}}, "files"),
        ("huggingface", {"files": {"a": {"sha256": "0" * 64, "size_bytes": -1}}}, "files"),
        ("huggingface", {"files": {"a": {"sha256": "0" * 64}}}, "files"),
        ("on-request", {"contact": "x", "ask_for": "the weights"}, "contact"),
    ],
)
def test_a_fault_in_the_weights_is_found(kind: str, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model(from_hub(kind, FILES, **changes))
    assert where in [part for error in caught.value.errors() for part in error["loc"]]


def test_a_fault_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(
        "kind: model\nname: toy\ntitle: toy\nsummary: s\nlicense: MIT\nlicense_source: x\n"
        "architecture: Toy\nparameters: 1\nprecision: int4\nweights:\n  kind: huggingface\n"
        f"  repository: o/m\n  revision: {'a' * 40}\n  files:\n"
        "    a.bin:\n      sha256: none\n      size_bytes: 3\n"
    )
    with pytest.raises(RelforgeError) as caught:
        load(path, Model)
    assert caught.value.code == ExitCode.USAGE
    assert f"{path}:16:" in f"{caught.value.where}"


def test_modelscope_takes_a_tag() -> None:
    weights = model(from_hub("modelscope", FILES, revision="v1.0.2")).weights
    assert weights.kind == "modelscope"
    assert weights.revision == "v1.0.2"
    assert weights.files == {p: hashlib.sha256(d).hexdigest() for p, d in FILES.items()}


@pytest.mark.parametrize("weights", [
    from_hub("huggingface", FILES), from_hub("modelscope", FILES, revision="v1"),
    {**ASK, "files": pins(FILES)}, ASK,
    {"kind": "local", "path": "w", "files": {"a": "0" * 64}},
])  # fmt: skip
def test_a_model_survives_being_written_and_read(weights: dict[str, Any]) -> None:
    made = model(weights)
    assert Model.model_validate(made.model_dump(mode="json")) == made
    assert Model.model_validate_json(made.model_dump_json()) == made
    assert made.model_dump(mode="json")["weights"] == {"files": {}, **weights}


def test_paths_of_the_site_are_relative_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "site.yaml"
    path.parent.mkdir()
    path.write_text(
        "kind: site\nweights: {toy: ../models/toy}\n"
        "hubs: {huggingface: {endpoint: 'https://mirror.example', token_file: hf.token}}\n"
    )
    site = load_site(path)
    assert site.weights == {"toy": tmp_path / "models" / "toy"}
    assert site.hubs.huggingface.token_file == tmp_path / "conf" / "hf.token"
    assert site.hubs.modelscope.token_file is None
    assert site.file == path


@pytest.mark.parametrize("endpoint", ["hub.example", "https://", "https://me:secret@hub.example"])
def test_an_endpoint_that_cannot_be_one_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        Site.model_validate({"hubs": {"huggingface": {"endpoint": endpoint}}})


# ------------------------------------------------------------------ content keys


def test_the_key_of_local_weights_is_made_of_model_folder_and_files(tmp_path: Path) -> None:
    toy = Toy(model({"kind": "local", "path": "w", "files": {"a": "0" * 64}}), Site(), tmp_path)
    files = [{"path": "a", "sha256": "0" * 64}]
    expected = {"model": "toy", "folder": "w", "files": files}
    wanted = content_key({"stage": "weights", "revision": 1, "inputs": expected})
    assert planned(tmp_path, toy).stages[0].key == wanted


def test_where_a_site_has_the_weights_is_no_part_of_a_key(tmp_path: Path) -> None:
    elsewhere = Site(weights={"toy": write(tmp_path / "w", FILES)})
    made = model(from_hub("huggingface", FILES))
    keys = {planned(tmp_path, Toy(made, s, tmp_path)).stages[0].key for s in (Site(), elsewhere)}
    assert len(keys) == 1


# ---------------------------------------------------------------------- on request


@pytest.mark.parametrize("pinned", [True, False])
def test_nobody_has_them_yet_it_says_whom_to_ask_for_what(tmp_path: Path, pinned: bool) -> None:
    outcome, _ = run(tmp_path, on_request(tmp_path, pinned=pinned))
    assert outcome.entry.exit_code == ExitCode.SOURCE
    error = outcome.error
    assert error is not None
    assert error.what == "weights of toy are given out on request"
    assert error.hint == (
        "ask models@vendor.example for the INT4 weights; then add to the site configuration: "
        "weights: {toy: /folder/of/the/files}"
    )


def test_with_pinned_hashes_they_are_verified(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", {**FILES, "more.txt": b"x"})
    outcome, _ = run(tmp_path, on_request(tmp_path, pinned=True, folder=folder))
    result = result_of(outcome)
    assert result.verified
    assert result.folder == folder
    assert sorted(result.names) == sorted(FILES), "what is not pinned is not served"
    (folder / "sub/part.bin").write_bytes(b"WEIGHTS")
    error = run(tmp_path, on_request(tmp_path, pinned=True, folder=folder))[0].error
    assert error is not None
    assert error.code == ExitCode.SOURCE
    assert error.what == "weights of toy: sub/part.bin is not the pinned file"
    (folder / "sub/part.bin").unlink()
    error = run(tmp_path, on_request(tmp_path, pinned=True, folder=folder))[0].error
    assert error is not None
    assert error.what == "weights of toy: sub/part.bin is missing"


def test_without_pinned_hashes_result_and_record_say_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", {**FILES, ".cache/x": b"x", ".hidden": b"x"})
    outcome, lines = run(tmp_path, on_request(tmp_path, pinned=False, folder=folder))
    result = result_of(outcome)
    assert not result.verified
    assert sorted(result.names) == sorted(FILES)
    recorded = _portable(result)
    assert recorded["verified"] is False
    assert {f["path"]: f["sha256"] for f in recorded["found"]} == {
        path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()
    }
    assert any("not verified" in line for line in lines)
    assert "not verified" in Weights().outcome(result)


def test_other_unpinned_weights_are_not_taken_for_the_earlier_ones(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", FILES)
    toy = on_request(tmp_path, pinned=False, folder=folder)
    run(tmp_path, toy)
    assert planned(tmp_path, toy).stages[0].status == "reuse"
    (folder / "new.bin").write_bytes(b"x")
    assert planned(tmp_path, toy).stages[0].status == "run"
    other = on_request(tmp_path, pinned=False, folder=write(tmp_path / "v", FILES))
    assert planned(tmp_path, other).stages[0].status == "run"


@pytest.mark.parametrize("files", [None, {}, {"a,b.bin": b"x"}])
def test_a_folder_that_cannot_serve_is_told(tmp_path: Path, files: dict[str, bytes] | None) -> None:
    folder = tmp_path / "w"
    if files is not None:
        folder.mkdir()
        write(folder, files)
    toy = on_request(tmp_path, pinned=False, folder=folder)
    with pytest.raises(RelforgeError) as caught:
        _end(tmp_path, toy)
    assert caught.value.code == ExitCode.SOURCE
    assert caught.value.where is not None
    assert caught.value.where.startswith(str(folder))


def _end(home: Path, toy: Toy) -> None:
    """Raises what planning, or the run, ends with."""
    if (error := run(home, toy)[0].error) is not None:
        raise error


def test_a_release_whose_weights_are_on_request_is_planned_and_stops_there(tmp_path: Path) -> None:
    (tmp_path / "manifests/models").mkdir(parents=True)
    text = (builtin_root() / "manifests/models/tiny-adder.yaml").read_text()
    start, end = text.index("weights:\n"), text.index("reference:\n")
    asking = "weights: {kind: on-request, contact: models@vendor.example, ask_for: the weights}\n"
    (tmp_path / "manifests/models/tiny-adder.yaml").write_text(text[:start] + asking + text[end:])
    project = Project((tmp_path, builtin_root()))
    loaded = subject(project, project.release("tiny-adder-cpu_x86"), Site())
    home = tmp_path / "home"
    assert {s.status for s in make_plan(loaded, STAGES, Store(home)).stages} == {"run"}
    plan = make_plan(loaded, STAGES, Store(home), until="weights")
    runner = Runner(
        home=home,
        executor=LocalExecutor(),
        site=Site(),
        dist=tmp_path / "dist",
        cancel=CancelToken(),
    )
    outcome = runner.run(plan, STAGES, "relforge release")
    assert [stage.name for stage in outcome.entry.stages] == ["preflight", "weights"]
    assert outcome.entry.exit_code == 4
    assert "models@vendor.example" in (outcome.entry.error or "")


# ----------------------------------------------------------------- folders, the store


def test_a_folder_of_the_site_stands_for_a_hub(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", FILES)
    made = model(from_hub("huggingface", FILES))
    result = result_of(run(tmp_path, Toy(made, Site(weights={"toy": folder}), tmp_path))[0])
    assert result.folder == folder
    assert result.origin == "a folder of this site"
    moved = write(tmp_path / "v", FILES)
    again = planned(tmp_path, Toy(made, Site(weights={"toy": moved}), tmp_path))
    assert again.stages[0].because == "the site configuration names another folder"


def test_files_of_another_copy_of_the_project_do_not_stand_for_this_ones(tmp_path: Path) -> None:
    hashes = {path: pin["sha256"] for path, pin in pins(FILES).items()}
    made = model({"kind": "local", "path": "model", "files": hashes})
    copies = [Toy(made, Site(), tmp_path / name) for name in ("one", "two")]
    for copy in copies:
        write(copy.root / "model", FILES)
    (copies[1].root / "model" / "config.json").write_text("{ }")
    result_of(run(tmp_path, copies[0])[0])
    assert planned(tmp_path, copies[0]).stages[0].status == "reuse"
    (again,) = planned(tmp_path, copies[1]).stages
    assert (again.status, again.because) == ("run", "another copy of the project left them")
    outcome, _lines = run(tmp_path, copies[1])
    assert outcome.error is not None
    assert "config.json" in str(outcome.error)
    assert outcome.error.code == ExitCode.SOURCE


def test_the_store_keeps_one_copy_of_one_content(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "store")
    data = b"shared"
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / "fetched").write_bytes(data)
    output = store.add(sha256, tmp_path / "fetched")
    folder = store.folder_of(tmp_path / "store/outputs/weights/k", {"a": sha256, "b/c": sha256})
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == ["a", "b", "b/c"]
    assert {p.stat().st_ino for p in (folder / "a", folder / "b/c")} == {output.inode}
    # Made anew with other files: nothing of the earlier folder stays.
    again = store.folder_of(tmp_path / "store/outputs/weights/k", {"d": sha256})
    assert [p.name for p in again.iterdir()] == ["d"]
    assert [p.name for p in again.parent.iterdir()] == ["files"]


@pytest.mark.parametrize("stamped", [True, False])
def test_an_altered_file_leaves_the_store(tmp_path: Path, stamped: bool) -> None:
    store = WeightStore(tmp_path / "store")
    data = b"good"
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / "fetched").write_bytes(data)
    path = store.add(sha256, tmp_path / "fetched").path
    record = path.with_name(f"{sha256}.json")
    if not stamped:
        record.unlink()
    found = store.lookup(sha256)
    assert found is not None
    assert record.exists()
    path.chmod(0o644)
    path.write_bytes(b"evil")
    assert store.lookup(sha256) is None
    assert not path.exists()


def test_local_weights_are_served_from_the_project(tmp_path: Path) -> None:
    write(tmp_path / "w", FILES)
    files = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}
    toy = Toy(model({"kind": "local", "path": "w", "files": files}), Site(), tmp_path)
    result = result_of(run(tmp_path / "home", toy)[0])
    assert served(result) == FILES
    assert sorted(result.names) == sorted(FILES)
    assert result.verified
