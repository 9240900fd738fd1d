"""Writes quickstart's site configuration from ``scripts/engine env --json`` on stdin."""

from __future__ import annotations

import json
import os
import sys

engine = json.load(sys.stdin)
site = {
    "kind": "site",
    "home": "home",
    "dist": "../dist",
    "engine": {k: engine[k] for k in ("docker", "host", "config_dir") if engine.get(k)},
    # Asked last, for the CPU build of torch, where pip itself is configured with no place that
    # has it. An index that does not answer costs seconds.
    "python": {
        "torch_cpu_index": os.environ.get(
            "RELFORGE_TORCH_INDEX", "https://download.pytorch.org/whl/cpu"
        )
    },
    "trusted_keys": [{"name": "quickstart", "public_key": "keys/quickstart.sign.pub.pem"}],
    "identities": ["keys/quickstart.age.key"],
    "patch_sets": {"vllm-0.32.0-cpu": "bundles/vllm-0.32.0-cpu.bundle"},
    "publish": {"signing": {"key": "keys/quickstart.sign.pem"}},
}
# JSON is YAML; no YAML library is needed before relforge is installed.
json.dump(site, sys.stdout, indent=2)
sys.stdout.write("\n")
