"""What people type against a running server, as one shell script: requests, accuracy, load."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from relforge.manifest.client import Ask, BenchServe, LmEval
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release

_PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
_DEFAULT = Ask(api="completions", text="Hello", max_tokens=16, temperature=0)


def client_script(release: Release, hosts: Sequence[HostNode] | None) -> str:
    """A script for bash that asks the first node; every value is quoted, no variable is read."""
    base_url = f"http://{_address(hosts)}:{release.serve.port}"
    parts = [_ask(release, ask, base_url) for ask in release.client.asks or (_DEFAULT,)]
    if (lm_eval := release.client.lm_eval) is not None:
        parts.append(_lm_eval(release, lm_eval, base_url))
    if (bench := release.client.bench) is not None:
        parts.append(_bench(release, bench, base_url))
    head = (
        "#!/bin/sh\n"
        f"# {release.name}: requests to the running server at {base_url}.\n"
        "# Written by relforge serve --print client; change the release's manifest instead.\n"
        "set -eu\n"
    )
    return "\n".join((head, *parts))


def _address(hosts: Sequence[HostNode] | None) -> str:
    found = hosts[0].address if hosts else None
    if found is None:
        return "127.0.0.1"
    return f"[{found}]" if ":" in found else found


def _ask(release: Release, ask: Ask, base_url: str) -> str:
    if ask.by == "openai":
        return _openai(release, ask, base_url)
    words = (
        *("curl", f"{base_url}{_PATHS[ask.api]}"),
        *("--fail", "--silent", "--show-error"),
        *(("--no-buffer",) if ask.stream else ()),
        *("--header", "Content-Type: application/json"),
        *("--data", json.dumps(_body(release, ask), ensure_ascii=False)),
    )
    return f"# One request ({ask.api}).\n{_lines(words)}\necho\n"


def _body(release: Release, ask: Ask) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "model": release.serve.served_name,
        "prompt": ask.text if ask.api == "completions" else None,
        "messages": [{"role": "user", "content": ask.text}] if ask.api == "chat" else None,
        "max_tokens": ask.max_tokens,
        "temperature": _short(ask.temperature),
        "stream": ask.stream or None,
    }
    return {name: value for name, value in rows.items() if value is not None}


def _short(number: float | None) -> float | int | None:
    return int(number) if number is not None and number == int(number) else number


def _openai(release: Release, ask: Ask, base_url: str) -> str:
    """The same with the OpenAI library: its base URL ends in /v1, it adds the rest itself."""
    create = "completions.create" if ask.api == "completions" else "chat.completions.create"
    what = "text" if ask.api == "completions" else "delta.content" if ask.stream else "message"
    arguments = ", ".join(f"{name}={value!r}" for name, value in _body(release, ask).items())
    lines = [
        f"# One {'streamed ' if ask.stream else ''}request with the OpenAI library "
        "(pip install openai).",
        "python3 - <<'PY'",
        "import openai",
        "",
        f'client = openai.OpenAI(base_url="{base_url}/v1", api_key="none")',
        f"answer = client.{create}({arguments})",
        *(
            (
                "for part in answer:",
                "    if part.choices:",
                f"        print(part.choices[0].{what} or '', end='', flush=True)",
                "print()",
            )
            if ask.stream
            else (f"print(answer.choices[0].{what})",)
        ),
        "PY",
        "",
    ]
    return "\n".join(lines)


def _lm_eval(release: Release, lm_eval: LmEval, base_url: str) -> str:
    # Tokens are counted by the tokenizer of the weights, which lie where the script runs.
    arguments = {
        "model": release.serve.served_name,
        "tokenizer": _model_path(release),
        "base_url": f"{base_url}{_PATHS[lm_eval.api]}",
        "tokenized_requests": "False",
        "trust_remote_code": "True" if _trusts(release) else "False",
        **({"num_concurrent": str(lm_eval.concurrency)} if lm_eval.concurrency else {}),
    }
    words = (
        "lm_eval",
        *("--model", "local-" + ("completions" if lm_eval.api == "completions" else _CHAT)),
        *("--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())),
        *(("--apply_chat_template",) if lm_eval.api == "chat" else ()),
        *("--tasks", ",".join(lm_eval.tasks)),
        *("--output_path", "./"),
    )
    return f"# Accuracy, inside the server's container or beside its weights.\n{_lines(words)}\n"


_CHAT = "chat-completions"


def _bench(release: Release, bench: BenchServe, base_url: str) -> str:
    words = [
        *("vllm", "bench", "serve"),
        *("--base-url", base_url),
        *("--model", release.serve.served_name),
        *("--tokenizer", _model_path(release)),
        *(("--trust-remote-code",) if _trusts(release) else ()),
        *("--dataset-name", bench.dataset),
        *("--random-input-len", str(bench.input_tokens)),
    ]
    if bench.output_tokens is not None:
        words += ["--random-output-len", str(bench.output_tokens)]
    words += ["--num-prompts", str(bench.prompts)]
    if bench.request_rate is not None:
        words += ["--request-rate", f"{bench.request_rate:g}"]
    words += ["--save-result", "--result-dir", "./"]
    return f"# Load, inside the server's container or beside its weights.\n{_lines(words)}\n"


def _model_path(release: Release) -> str:
    return release.serve.model_path.replace("{model}", release.model)


def _trusts(release: Release) -> bool:
    return release.serve.args.get("trust-remote-code") is True


def _lines(words: Sequence[str]) -> str:
    """A command over several lines, each option with its value on one."""
    return " \\\n  ".join(" ".join(group) for group in _grouped(words))


def _grouped(words: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for word in words:
        if group and word.startswith("-"):
            yield group
            group = []
        group.append(shlex.quote(word))
    yield group
