"""What the tests of hub targets share: a target on a stand-in hub, also as a process to be killed.

python -m tests.support.hub_targets HUB URL TOKEN_FILE FOLDER STEP
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import HubTarget
from relforge.manifest.site import HubSite, HubsSite, Site
from relforge.publishing.hubs.client import Patience
from relforge.publishing.hubs.flow import HubFlow
from relforge.publishing.published import Published, read_published
from relforge.publishing.target import Delivery, Doing, Step
from relforge.publishing.targets.huggingface import HuggingFaceTarget
from relforge.publishing.targets.modelscope import ModelScopeTarget
from relforge.retrying import RetryPolicy
from tests.fakes.hub_server import HubServer

TOKEN = "hf_" + "Secret0Token" * 3
NAME = "team/tiny-adder"
WEIGHTS = {"model.safetensors": bytes(range(256)) * 4000, "config.json": b'{"a": 1}\n'}
QUICK = Patience(RetryPolicy(attempts=3, first_wait_s=0.05, longest_wait_s=0.1), answer_s=60.0)


def target_on(
    kind: Any, url: str, token_file: Path | None, *, patience: Patience = QUICK, **spec: Any
) -> HubFlow:
    """A target of this kind with weights; ``spec`` is more of its manifest."""
    one = HubSite(endpoint=url, token_file=token_file)
    site = Site(hubs=HubsSite(huggingface=one, modelscope=one))
    made = HubTarget(kind=kind, **{"repository": "team/{model}", "weights": True, **spec})
    types = {"huggingface": HuggingFaceTarget, "modelscope": ModelScopeTarget}
    return types[kind]("hub", made, site, patience=patience)


@dataclass
class Told:
    """A ``Doing`` that keeps its lines."""

    lines: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def doing(self) -> Doing:
        return Doing(line=self.lines.append, reason=self.reason)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def apply(target: HubFlow, published: Published, step: Step, reason: str = "") -> Delivery:
    """Applies the step; what was said has no secret in it."""
    told = Told(reason=reason)
    delivery = target.apply(published, step, told.doing)
    require_no_secret(told.text)
    require_no_secret(delivery.model_dump_json())
    return delivery


def failing(target: HubFlow, published: Published, step: Step = "candidate") -> RelforgeError:
    """The error of a step that must fail: whole, of publishing, and without a secret."""
    told = Told(reason="for the test")
    with pytest.raises(RelforgeError) as caught:
        target.apply(published, step, told.doing)
    error = caught.value
    assert error.code == ExitCode.PUBLISH
    assert error.where
    assert error.why
    assert error.hint
    require_no_secret(str(error) + told.text)
    return error


def require_no_secret(text: str) -> None:
    """Neither the token, nor the signature of an address for uploads."""
    assert TOKEN not in text
    assert "0123456789abcdef" not in re.sub(r"[0-9a-f]{40,}", "", text)


def changed(delivery: Delivery, kind: str = "file") -> set[str]:
    """Names of what was changed."""
    return {one.name for one in delivery.changes if one.kind == kind and one.action != "same"}


def wanted(published: Published, kind: str) -> dict[str, bytes]:
    """What a downloader must get, beside the publication file: made anew from the folder."""
    found = {}
    for here in {*published.files, *published.unlisted}:
        there = here.removeprefix("weights/")
        own = here.startswith(("README", ".eval_results/"))
        if kind == "modelscope":
            if own or (here.startswith("cards/") and not here.startswith("cards/modelscope/")):
                continue
            there = there.removeprefix("cards/modelscope/")
        elif here.startswith("cards/"):
            continue
        found[there] = (published.folder / here).read_bytes()
    return found


def read_folder(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Files below a folder that a client filled."""
    own = (".cache/", ".gitattributes", ".relforge/", ".msc", ".mv", *without)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(own):
            found[name] = path.read_bytes()
    return found


def started(
    kind: str, hub: HubServer, token_file: Path, published: Published, step: Step
) -> subprocess.Popen[str]:
    """The step in a process of its own, as one that may be killed."""
    words = [kind, hub.url, str(token_file), str(published.folder), step]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.hub_targets", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def descendants(pid: int) -> Iterator[int]:
    """Processes below this one."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            yield int(entry.name)
            yield from descendants(int(entry.name))


def main() -> None:
    """Applies one step."""
    kind, url, token_file, folder, step = sys.argv[1:6]
    target = target_on(kind, url, Path(token_file))
    doing = Doing(line=lambda line: print(line, file=sys.stderr))  # noqa: T201
    published = read_published(Path(folder))
    try:
        target.apply(published, step, doing)  # type: ignore[arg-type]
    except RelforgeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(int(error.code))


if __name__ == "__main__":
    os.environ.pop("HF_TOKEN", None)
    main()
