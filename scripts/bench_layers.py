#!/usr/bin/env python3
"""How many bytes of an image are sent again after one Python file of the patched source changed.

    scripts/bench_layers.py [--site FILE]      default: .relforge/site.yaml, as quickstart wrote it

Builds the release twice, in a copy of the project, each time with another text in one line of one
patch of vLLM, and counts the blobs of the second image that the first does not have: what a
registry that holds the first is sent. Needs a running engine and what ./scripts/quickstart fetched;
the first build takes minutes where nothing is cached. The figure to hold is 10 % of the image's
bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
RELEASE = "tiny-adder-cpu_x86"
ALLOWED = 0.10
LINE = "is not supported by CPU attention"
PATH_FIELDS = ("home", "dist", "package_cache")


def own_site(given: Path, project: Path) -> Path:
    """The site configuration with absolute paths and plain patches: only their owner seals."""
    site: dict[str, Any] = json.loads(given.read_text())
    for name in PATH_FIELDS:
        if name in site:
            site[name] = str(given.parent / site[name])
    site["dist"] = str(project / "dist")
    site["patch_sets"] = {}
    site["trusted_keys"] = site["identities"] = []
    path = project / "site.yaml"
    path.write_text(json.dumps(site))
    return path


def relforge(verb: str, project: Path, site: Path) -> str:
    words = [verb, "--release", RELEASE, "--project", project, "--site", site]
    done = subprocess.run(
        [sys.executable, "-c", "from relforge.cli import main; main()", *map(str, words),
         *(["--json"] if verb == "build" else [])],
        cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"relforge {verb} ended with {done.returncode}")
    return done.stdout


def built(project: Path, site: Path, text: str) -> Path:
    """The layout of the image with this text in the patch."""
    (patch,) = (project / "patches" / "vllm-0.32.0-cpu").glob("0003-*.patch")
    original = (CHECKOUT / patch.relative_to(project)).read_text()
    assert original.count(LINE) == 1
    patch.write_text(original.replace(LINE, f"{LINE} {text}"))
    relforge("lock", project, site)
    digest = json.loads(relforge("build", project, site))["image_digest"]
    home = Path(json.loads(site.read_text())["home"])
    for path in (home / "store" / "results" / "build").glob("*.json"):
        result = json.loads(path.read_text())["result"]
        if result["image_digest"] == digest:
            return Path(result["layout"])
    raise SystemExit(f"{home} has no result with {digest}")


def blobs(layout: Path) -> dict[str, int]:
    """Bytes of each blob, by name."""
    return {path.name: path.stat().st_size for path in (layout / "blobs" / "sha256").iterdir()}


def steps(layout: Path) -> dict[str, str]:
    """What made each layer, by the name of its blob."""

    def blob(digest: str) -> dict[str, Any]:
        text = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text()
        found: dict[str, Any] = json.loads(text)
        return found

    entry = json.loads((layout / "index.json").read_text())["manifests"][0]
    manifest = blob(entry["digest"])
    history = [h for h in blob(manifest["config"]["digest"])["history"] if not h.get("empty_layer")]
    made = {
        layer["digest"].removeprefix("sha256:"): " ".join(row["created_by"].split())[:60]
        for layer, row in zip(manifest["layers"], history, strict=True)
    }
    return {
        **made,
        entry["digest"].removeprefix("sha256:"): "manifest",
        manifest["config"]["digest"].removeprefix("sha256:"): "configuration",
    }


def main() -> None:
    options = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    options.add_argument("--site", type=Path, default=CHECKOUT / ".relforge" / "site.yaml")
    given = options.parse_args().site.absolute()
    with tempfile.TemporaryDirectory(prefix="relforge-bench-") as name:
        project = Path(name)
        for folder in ("manifests", "patches", "examples", "dockerfiles"):
            shutil.copytree(CHECKOUT / folder, project / folder)
        site = own_site(given, project)
        before = built(project, site, f"({os.getpid()}-before)")
        after = built(project, site, f"({os.getpid()}-after)")
        there, wanted, made = blobs(before), blobs(after), steps(after)
    sent = {name: size for name, size in wanted.items() if name not in there}
    total = sum(wanted.values())
    assert sent, "the two images are the same: nothing was measured"
    for name in sorted(sent, key=lambda n: -sent[n]):
        print(f"  {sent[name]:>12,} B  {name[:12]}  {made[name]}")
    share = sum(sent.values()) / total
    verdict = "ok" if share <= ALLOWED else "MISSED"
    print(
        f"one changed Python file: {sum(sent.values()):,} of {total:,} B are sent again, "
        f"{share:.2%}; at most {ALLOWED:.0%}: {verdict}"
    )
    if share > ALLOWED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
