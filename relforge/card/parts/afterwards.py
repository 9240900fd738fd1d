"""The numbered steps after the start: a request, and the end."""

from __future__ import annotations

import json
import shlex
from typing import Any

from relforge.card.model import Code, Needs, Said, Step
from relforge.card.parts.material import Material
from relforge.card.parts.variables import quoted
from relforge.manifest.client import Ask
from relforge.serving.model import LaunchSpec


def request_step(material: Material) -> Step:
    """A request that shows that it works, with the answer where one was recorded."""
    release = material.release
    sample = material.smoke.sample if material.smoke else None
    asks = release.client.asks
    ask = next((a for a in asks if a.by == "curl"), Ask(api="completions", text="Hello"))
    body: dict[str, Any] = {"model": release.serve.served_name}
    path = "/v1/completions"
    if sample is not None:
        body |= {"prompt": sample.prompt, "max_tokens": sample.max_tokens, "temperature": 0}
    elif ask.api == "chat":
        path = "/v1/chat/completions"
        body["messages"] = [{"role": "user", "content": ask.text}]
        body["max_tokens"] = ask.max_tokens or release.smoke.max_tokens
        body |= {"temperature": ask.temperature} if ask.temperature is not None else {}
    else:
        body |= {"prompt": ask.text, "max_tokens": ask.max_tokens or release.smoke.max_tokens}
        body["temperature"] = ask.temperature or 0
    text = (
        f"curl --fail --silent http://127.0.0.1:{release.serve.port}{path} \\\n"
        "  --header 'Content-Type: application/json' \\\n"
        f"  --data {quoted(json.dumps(body, ensure_ascii=False), {})}"
    )
    words = [
        Said(
            text="From another terminal of the first node:"
            if release.serve.nodes > 1
            else "From another terminal:"
        )
    ]
    elsewhere = material.device.accelerator or release.serve.nodes > 1
    needs: tuple[Needs, ...] = ("hardware",) if elsewhere else ()
    return Step(
        title="Ask it",
        words=tuple(words),
        codes=(
            Code(text=text, step="request", needs=needs, expect=sample.text if sample else None),
        ),
    )


def stop_step(spec: LaunchSpec) -> Step:
    """The step that ends every container of the launch, on the host where it runs."""
    several = len(spec.nodes) > 1
    on_host: dict[str, list[str]] = {}
    for node in spec.nodes:
        on_host.setdefault(node.host, []).append(node.name)
    stops = {host: f"docker stop {shlex.join(names)}" for host, names in on_host.items()}
    alike = len(set(stops.values())) == 1
    return Step(
        title="Stop it",
        words=(Said(text="On every node, from another terminal:"),) if several else (),
        codes=tuple(
            Code(
                text=stop,
                title=None if alike else Said(text="On %(node)s:", values={"node": f"`{host}`"}),
                step="stop",
            )
            for host, stop in list(stops.items())[: 1 if alike else None]
        ),
    )
