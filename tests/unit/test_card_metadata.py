"""The heads that hubs read: made by their own libraries, and refused where they contradict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub._eval_results import parse_eval_result_entries

from relforge.card.metadata import (
    _MODELSCOPE_LICENSES,
    accepted_by_hub,
    eval_results,
    front_matter,
    require_consistent,
)
from relforge.card.model import CardData, Metadata, Scored
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.model import Model
from tests.support.cards import PROJECT, card_data

SCORES = (
    Scored(task="gsm8k", metric="exact_match", value=95.07, n=1319, dataset="openai/gsm8k",
           dataset_revision="e" * 40),
    Scored(task="additions", metric="exact_match", value=93.6, n=1000, dataset=None,
           dataset_revision=None),
)  # fmt: skip


def with_metadata(**changes: Any) -> CardData:
    card = card_data("deepseek-r1-int4-bi_V150")
    return card.model_copy(update={"metadata": card.metadata.model_copy(update=changes)})


def head(card: CardData, target: Any = "hf") -> dict[str, Any]:
    text = front_matter(card, target)
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_the_head_for_hugging_face_says_where_the_weights_come_from() -> None:
    assert head(with_metadata()) == {
        "license": "mit", "base_model": "deepseek-ai/DeepSeek-R1",
        "base_model_relation": "quantized", "language": ["en", "zh"], "library_name": "vllm",
        "pipeline_tag": "text-generation",
        "tags": ["relforge", "flagscale", "bi_V150", "iluvatar", "flaggems"],
    }  # fmt: skip


def test_measured_scores_are_a_model_index_that_the_library_reads_back() -> None:
    text = front_matter(with_metadata(scores=SCORES, name="A model"), "hf")
    data: Any = ModelCard(text).data
    assert data.model_name == "A model"
    first, second = data.eval_results
    assert isinstance(first, EvalResult)
    assert (first.dataset_type, first.metric_value, first.dataset_revision) == (
        "openai/gsm8k", 95.07, "e" * 40,
    )  # fmt: skip
    assert first.metric_name == "exact_match of 1319 questions, percent"
    assert second.dataset_type == "additions"


def test_scores_on_datasets_of_the_hub_get_result_files_and_others_none() -> None:
    files = eval_results(with_metadata(scores=SCORES, date="2026-01-31"))
    assert list(files) == [".eval_results/openai-gsm8k.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(next(iter(files.values()))))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 95.07)
    assert (entry.dataset_revision, entry.date) == ("e" * 40, "2026-01-31")
    assert entry.notes == "exact_match, percent of 1319 questions"


def test_reported_figures_are_in_no_head() -> None:
    card = card_data("deepseek-r1-int4-bi_V150")
    assert card.reported
    assert card.metadata.scores == ()
    assert "model-index" not in front_matter(card, "hf")


def test_a_licence_that_the_hub_does_not_list_is_named() -> None:
    found = head(with_metadata(license="Vendor-Weights-1.0"))
    assert (found["license"], found["license_name"]) == ("other", "vendor-weights-1.0")


def test_the_head_for_modelscope_has_its_names() -> None:
    found = head(with_metadata(), "modelscope")
    assert found["license"] == "MIT"
    assert found["tasks"] == ["text-generation"]
    assert found["base_model"] == ["deepseek-ai/DeepSeek-R1"]
    assert head(with_metadata(license="Vendor-1.0"), "modelscope")["license"] == "Other"


def test_the_licences_of_modelscope_are_those_that_its_library_knows() -> None:
    constants = pytest.importorskip("modelscope_hub.constants")
    assert {*_MODELSCOPE_LICENSES, "Other"} == {one.value for one in constants.License}


def test_a_card_for_github_has_no_head() -> None:
    assert front_matter(with_metadata(), "github") == ""


def changed(name: str, **changes: Any) -> Model:
    data = PROJECT.model(name).model_dump(mode="json")
    return Model.model_validate({**data, **changes})


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("deepseek-r1-int4", {"license": "Apache-2.0"}, "is not that of the base model"),
        ("deepseek-r1-int4", {"base_model_relation": "finetune"}, "without `base_model_relation"),
        ("deepseek-r1-int4", {"base_model": None, "base_model_relation": None}, "int4"),
        ("deepseek-r1", {"license": "unknown"}, "is no licence"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_gets_no_card(
    name: str, changes: dict[str, Any], says: str
) -> None:
    require_consistent(PROJECT.model(name))
    with pytest.raises(RelforgeError) as caught:
        require_consistent(changed(name, **changes))
    assert caught.value.code is ExitCode.GATE
    assert says in caught.value.what
    assert caught.value.where == f"manifests/models/{name}.yaml"


class _Hub(BaseHTTPRequestHandler):
    """Answers as the hub's validation does: 400 with its words for what it does not know."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = (
            self.path == "/api/validate-yaml" and "pipeline_tag: text-generation" in body["content"]
        )
        answer = b"OK" if good else b'"pipeline_tag" must be one of many'
        self.send_response(200 if good else 400)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_hub_can_be_asked_and_is_quoted(hub: str) -> None:
    text = front_matter(with_metadata(), "hf") + "# A card\n"
    accepted_by_hub(text, hub)
    with pytest.raises(RelforgeError, match="not valid") as caught:
        accepted_by_hub(text.replace("text-generation", "telling-tales"), hub)
    assert caught.value.code is ExitCode.GATE
    assert '"pipeline_tag" must be one of many' in (caught.value.why or "")


def test_a_hub_that_is_not_there_is_no_verdict() -> None:
    with pytest.raises(RelforgeError) as caught:
        accepted_by_hub("---\nlicense: mit\n---\n", "http://127.0.0.1:9")
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.where == "http://127.0.0.1:9"


def test_metadata_is_plain_data() -> None:
    meta = with_metadata(scores=SCORES).metadata
    assert Metadata.model_validate_json(meta.model_dump_json()) == meta
