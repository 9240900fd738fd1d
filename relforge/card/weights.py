"""How somebody who reads the card gets the weights."""

from __future__ import annotations

import shlex

from relforge.frozen import Frozen
from relforge.manifest.model import Model
from relforge.manifest.weights import LocalWeights, OnRequestWeights, ServerWeights


class WeightsSource(Frozen):
    """Where the weights are, in words, and the commands after which ``$WEIGHTS`` is the folder."""

    words: str
    command: str


def weights_source(model: Model) -> WeightsSource:
    """The first step of the card's instructions."""
    weights = model.weights
    if isinstance(weights, LocalWeights):
        return WeightsSource(
            words=f"The weights: the folder `{weights.path}` of this project.",
            command=f"WEIGHTS=$PWD/{shlex.quote(weights.path)}",
        )
    if isinstance(weights, OnRequestWeights):
        return WeightsSource(
            words=f"The weights are given out on request: ask {weights.contact} for "
            f"{weights.ask_for}.",
            command="WEIGHTS=/folder/of/the/files",
        )
    if isinstance(weights, ServerWeights):
        return WeightsSource(
            words=f"The server fetches {weights.what} itself, into the folder that it is given.",
            command='WEIGHTS=$PWD/weights\nmkdir -p "$WEIGHTS"',
        )
    hub = weights.kind == "huggingface"
    words = [*(("hf", "download") if hub else ("modelscope", "download", "--model"))]
    words += [weights.repository, "--revision", weights.revision]
    words += ["--local-dir" if hub else "--local_dir", "weights"]
    return WeightsSource(
        words=f"The weights: `{weights.repository}` on {'Hugging Face' if hub else 'ModelScope'}, "
        f"revision `{weights.revision}`.",
        command=f"{shlex.join(words)}\nWEIGHTS=$PWD/weights",
    )
