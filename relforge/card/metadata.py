"""The head of a card and the result files beside it, as the hubs' own libraries write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from relforge.card.model import CardData, Metadata, Scored, Target
from relforge.card.parts.material import Material
from relforge.checking.rules import of_model
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.model import Model

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

# Identifiers of the Hub's list of licences that models here are likely to have; any other is
# `other`, with its name (https://huggingface.co/docs/hub/repositories-licenses).
_HF_LICENSES = frozenset(
    {
        "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0",
        "cc-by-nc-4.0", "cc0-1.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "mpl-2.0",
        "unlicense", "openrail", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3",
    }
)  # fmt: skip
# The licences that ModelScope knows (modelscope_hub.constants.License); any other is `Other`. Here,
# because every release has a card for ModelScope, also where its library is not installed.
_MODELSCOPE_LICENSES = frozenset(
    {
        "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "GPL-2.0", "GPL-3.0", "LGPL-2.1",
        "LGPL-3.0", "MPL-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0",
        "Unlicense",
    }
)  # fmt: skip
_LIBRARIES = {"vllm": "vllm", "flagscale": "vllm", "sglang": "sglang", "paddlenlp": "paddlenlp"}
_PIPELINE = "text-generation"


def metadata_of(material: Material) -> Metadata:
    """What hubs are told. Raises RelforgeError (GATE) where it contradicts itself."""
    model, release = material.model, material.release
    require_consistent(model)
    declared = release.evaluation.each if release.evaluation is not None else ()
    datasets = {task.task: task.datasets for task in declared}
    tags = ["relforge", *([] if release.engine == "command" else [release.engine])]
    tags.append(material.device.name)
    if material.device.accelerator:
        tags.append(material.device.vendor.name)
    if any(name.startswith(("USE_FLAGGEMS", "VLLM_USE_FLAGGEMS")) for name in release.serve.env):
        tags.append("flaggems")
    return Metadata(
        license=model.license,
        languages=model.languages,
        base_model=model.base_model or _own(model),
        base_model_relation=model.base_model_relation,
        library=_LIBRARIES.get(release.engine),
        tags=tuple(dict.fromkeys(tags)),
        name=release.title,
        scores=tuple(
            Scored(
                task=one.task,
                metric=one.metric,
                value=round(one.result_percent, 4),
                n=one.n,
                dataset=next(iter(datasets.get(one.task, {})), None),
                dataset_revision=next(iter(datasets.get(one.task, {}).values()), None),
            )
            for one in material.evaluation
        ),
        date=material.build.created[:10] if material.build else None,
    )


def _own(model: Model) -> str | None:
    """The weights themselves, where they lie on a hub and are served as they are."""
    return getattr(model.weights, "repository", None)


def require_consistent(model: Model) -> None:
    """Raises RelforgeError (GATE) for a licence that the base model's does not allow, and for
    quantized weights that do not say so: `relforge check`'s rules, which nobody has to run first.
    """
    for contradiction in of_model(model, {}):
        raise RelforgeError(
            f"no card is written for {model.name}: {contradiction.what}",
            code=ExitCode.GATE,
            where=f"manifests/models/{model.name}.yaml",
            why=contradiction.why,
            hint=contradiction.hint,
        )


def front_matter(card: CardData, target: Target, release_files: str | None = None) -> str:
    """The YAML head with its fences; empty for ``github``, which shows it as a table.

    ``release_files`` is an address under which the evidence lies. Raises RelforgeError (GATE) when
    the hub's library does not accept what was written.
    """
    if target == "github":
        return ""
    head = _huggingface(card, release_files) if target == "hf" else _modelscope(card)
    return f"---\n{head.strip()}\n---\n\n"


def _huggingface(card: CardData, release_files: str | None) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    meta = card.metadata
    known = meta.license.lower() in _HF_LICENSES
    results = [_eval_result(score, release_files) for score in meta.scores]
    data = ModelCardData(
        license=meta.license.lower() if known else "other",
        license_name=None if known else meta.license.lower(),
        language=list(meta.languages) or None,
        base_model=meta.base_model,
        library_name=meta.library,
        pipeline_tag=_PIPELINE,
        tags=list(meta.tags),
        model_name=meta.name if results else None,
        eval_results=results or None,
    )
    if meta.base_model_relation is not None:
        # No parameter of the class, and a field of the Hub's all the same.
        data["base_model_relation"] = meta.base_model_relation
    text = str(data.to_yaml())
    try:
        again = ModelCard(f"---\n{text}\n---\n").data
    except ValueError as error:
        raise _refused("huggingface_hub", str(error)) from error
    if yaml.safe_load(again.to_yaml()) != yaml.safe_load(text):
        raise _refused("huggingface_hub", "what it reads is not what it wrote")
    return text


def _eval_result(score: Scored, source_url: str | None) -> EvalResult:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type=_PIPELINE,
        dataset_type=score.dataset or score.task,
        dataset_name=score.task,
        dataset_revision=score.dataset_revision,
        metric_type=score.metric,
        metric_name=f"{score.metric} of {score.n} questions, percent",
        metric_value=score.value,
        source_name="recorded answers" if source_url else None,
        source_url=source_url,
    )


def _modelscope(card: CardData) -> str:
    meta = card.metadata
    known = meta.license in _MODELSCOPE_LICENSES
    data: dict[str, Any] = {
        "license": meta.license if known else "Other",
        "tasks": [_PIPELINE],
        "domain": ["nlp"],
        "language": list(meta.languages),
        "base_model": [meta.base_model] if meta.base_model else [],
        "base_model_relation": meta.base_model_relation,
        "tags": list(meta.tags),
    }
    kept = {key: value for key, value in data.items() if value not in ([], None)}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def eval_results(card: CardData, source_url: str | None = None) -> Mapping[str, bytes]:
    """``.eval_results/*.yaml``: scores on datasets that the Hub has, one file for each.

    Empty where the tasks are the project's own: there is no leaderboard that could list them.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    files: dict[str, list[EvalResultEntry]] = {}
    for score in card.metadata.scores:
        if score.dataset is None:
            continue
        name = f".eval_results/{score.dataset.replace('/', '-')}.yaml"
        files.setdefault(name, []).append(
            EvalResultEntry(
                dataset_id=score.dataset,
                dataset_revision=score.dataset_revision,
                task_id=score.task,
                value=score.value,
                date=card.metadata.date,
                source_url=source_url,
                notes=f"{score.metric}, percent of {score.n} questions",
            )
        )
    return {
        name: yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False).encode()
        for name, entries in sorted(files.items())
    }


def accepted_by_hub(text: str, endpoint: str | None) -> None:
    """Asks the Hugging Face Hub, or *endpoint*, whether it takes the head of a card.

    Raises RelforgeError: GATE with the hub's own words when it does not, ENVIRONMENT when it cannot
    be asked.
    """
    from huggingface_hub import ModelCard, constants
    from huggingface_hub.errors import HfHubHTTPError

    usual = constants.ENDPOINT
    try:
        # The library asks the address that it was loaded with, and has no parameter for another.
        constants.ENDPOINT = endpoint or usual
        ModelCard(text).validate(repo_type="model")
    except ValueError as error:
        raise _refused("the hub", str(error)) from error
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(endpoint or usual, error) from error
    except Exception as error:
        # The transport's errors, which the library does not wrap: httpx's, or its successor's.
        if not type(error).__module__.startswith("httpx"):
            raise
        raise _unreachable(endpoint or usual, error) from error
    finally:
        constants.ENDPOINT = usual


def _unreachable(endpoint: str, error: Exception) -> RelforgeError:
    return RelforgeError(
        "the hub could not be asked whether it takes the card",
        code=ExitCode.ENVIRONMENT,
        where=endpoint,
        why=str(error),
        hint="set hubs.huggingface.endpoint in the site configuration, or leave --validate out",
    )


def _refused(library: str, why: str) -> RelforgeError:
    return RelforgeError(
        "the head of the card is not valid",
        code=ExitCode.GATE,
        why=f"{library}: {why}",
        hint="correct license, base_model and languages in the model's manifest",
    )
