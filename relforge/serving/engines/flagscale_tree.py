"""FlagScale with the model's file that its own tree brings, and a few values of it changed.

Where a vendor's configuration lies in a sealed patch, nobody else can say how the model is shared
among accelerators; so it is taken from the installed package, as the published instructions do.
"""

from __future__ import annotations

import json
import shlex

from relforge.manifest.release import Release
from relforge.manifest.serve import TreeConfig

# Runs in the container, whose FlagScale needs PyYAML too. $1: the model's file, $2: changes.
_CHANGE = """\
import json, sys, yaml
path, changes = sys.argv[1], json.loads(sys.argv[2])
content = yaml.safe_load(open(path))
content[0].setdefault("engine_args", {}).update(changes)
open(path, "w").write(yaml.safe_dump(content, sort_keys=False))
"""


def copied(release: Release, tree: TreeConfig, name: str, folder: str) -> tuple[str, ...]:
    """Shell commands that put the tree's file of the model *name* into *folder*, changed.

    ``serve.args`` and what relforge says itself (port, name, path of the weights) are changes; the
    rest stays as the tree has it.
    """
    serve = release.serve
    changes = {
        "model": serve.model_path.replace("{model}", release.model),
        "served_model_name": serve.served_name,
        "port": serve.port,
        **{key.replace("-", "_"): value for key, value in serve.args.items()},
    }
    model = f"{folder}/serve/{name}.yaml"
    return (
        shlex.join(("mkdir", "-p", f"{folder}/serve")),
        shlex.join(("cp", f"{tree.folder}/serve/{name}.yaml", model)),
        shlex.join(("python3", "-c", _CHANGE, model, json.dumps(changes, sort_keys=True))),
    )
