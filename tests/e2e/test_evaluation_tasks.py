"""A release with several tasks: each has its verdict and evidence, and all decide together."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Hello

pytestmark = pytest.mark.timeout(600)


def with_two_tasks(hello: Hello, **second: Any) -> None:
    """The same questions under another name, compared with a reference of the project."""
    project = hello.project
    task = (project / "task.yaml").read_text()
    (project / "again.yaml").write_text(task.replace("hello_addition", "hello_again"))
    evidence = json.loads((project / "reference.json").read_text())
    evidence["settings"]["task"] = "hello_again"
    raw = json.dumps(evidence).encode()
    (project / "again.json").write_bytes(raw)
    result, settings = evidence["result"], evidence["settings"]
    references = project / "manifests" / "references"
    references.mkdir()
    reference = {
        "kind": "reference",
        "name": "hello-again",
        "model": "hello",
        "title": "hello, asked again",
        "status": "measured",
        "precision": "float32",
        "hardware": "x86-64 CPU",
        "tool": settings["tool"],
        "tool_version": settings["tool_version"],
        "figures": [
            {
                "task": "hello_again",
                "metric": "exact_match",
                "value": round(100 * result["correct"] / result["n"], 2),
                "n": result["n"],
                "evidence": {
                    "task": "hello_again",
                    "path": "again.json",
                    "sha256": hashlib.sha256(raw).hexdigest(),
                },
            }
        ],
    }
    (references / "hello-again.yaml").write_text(yaml.safe_dump(reference))
    path = project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["evaluation"] = {
        "tasks": [
            {"task": "task.yaml", "questions": 500, "margin_points": 2},
            {
                "task": "again.yaml",
                "questions": 400,
                "margin_points": 3,
                "reference": "hello-again",
                **second,
            },
        ]
    }
    path.write_text(yaml.safe_dump(manifest))


def test_each_task_has_its_verdict_and_evidence(hello: Hello) -> None:
    with_two_tasks(hello)
    done = hello.run("release", "--json")
    assert done.code == 0, done.stderr
    assert done.json["verdicts"]["evaluate"] == "pass"
    assert "hello_addition non-inferior, hello_again non-inferior" in done.stderr
    folder = hello.dist / "hello-cpu_x86"
    record = json.loads((folder / "release.json").read_text())["results"]["evaluate"]
    assert record["conclusion"] == "non-inferior"
    assert [(t["task"], t["n"], t["margin_points"]) for t in record["tasks"]] == [
        ("hello_addition", 500, 2),
        ("hello_again", 400, 3),
    ]
    for task in record["tasks"]:
        evidence = json.loads((folder / "evidence" / f"evaluation-{task['task']}.json").read_text())
        assert evidence["settings"]["task"] == task["task"]
        assert evidence["result"]["correct"] == task["result_correct"]
    card = (folder / "README.md").read_text()
    for task in record["tasks"]:
        named = f"| {task['task']} ({task['metric']}) | {task['n']} |"
        assert f"{named} {task['reference_percent']:.2f} %" in card


def test_one_inferior_task_fails_the_release(hello: Hello) -> None:
    with_two_tasks(hello)
    evidence = hello.project / "again.json"
    altered = json.loads(evidence.read_text())
    for question in altered["questions"]:
        question["answer"], question["correct"] = question["expected"], True
    altered["result"] |= {"correct": altered["result"]["n"], "accuracy": 1.0}
    raw = json.dumps(altered).encode()
    reference = hello.project / "manifests" / "references" / "hello-again.yaml"
    content = yaml.safe_load(reference.read_text())
    content["figures"][0]["value"] = 100.0
    content["figures"][0]["evidence"]["sha256"] = hashlib.sha256(raw).hexdigest()
    reference.write_text(yaml.safe_dump(content))
    evidence.write_bytes(raw)
    path = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    path.write_text(path.read_text().replace("margin_points: 3", "margin_points: 0.5"))
    done = hello.run("release")
    assert done.code == 6, done.stderr
    assert "hello_addition: non-inferior" in done.stderr
    assert "hello_again: inferior" in done.stderr
    assert not (hello.dist / "hello-cpu_x86").exists()


def test_other_settings_are_found_before_a_server_is_started(hello: Hello) -> None:
    with_two_tasks(hello, endpoint="chat")
    before = set(hello.home.glob("runs/*"))
    done = hello.run("eval")
    assert done.code == 6, done.stderr
    assert "endpoint: 'completions', 'chat'" in done.stderr
    (run,) = set(hello.home.glob("runs/*")) - before
    assert not (run / "hello-cpu_x86" / "logs" / "server-evaluate.log").exists()
