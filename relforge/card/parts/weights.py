"""How somebody who reads the card gets the weights."""

from __future__ import annotations

import shlex

from relforge.card.model import Code, Said, Step
from relforge.card.parts.addresses import mail
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.model import Model
from relforge.manifest.weights import LocalWeights, OnRequestWeights, ServerWeights

TITLE = "The weights"
FOLDER = "weights"
"""Below a published release: the weights of models that lie in the project itself."""


def weights_step(model: Model, *, published: bool) -> Step:
    """The first step; after it ``$WEIGHTS`` is the folder of the weights.

    Those of the project lie in a published release's folder, too.
    """
    weights = model.weights
    if isinstance(weights, LocalWeights):
        folder = FOLDER if published else shlex.quote(weights.path)
        return Step(
            title=TITLE,
            words=(
                Said(
                    text="They are a part of the release."
                    if published
                    else "They are a part of the project; this is typed in its folder."
                ),
            ),
            codes=(Code(text=f"WEIGHTS=$PWD/{folder}", step="weights"),),
        )
    if isinstance(weights, OnRequestWeights):
        return Step(
            title=TITLE,
            words=(
                Said(
                    text="They are handed out on request: write to %(contact)s and ask for "
                    "%(what)s. Put the files into the folder `weights`.",
                    values={"contact": mail(weights.contact), "what": weights.ask_for},
                ),
            ),
            codes=(Code(text=f"WEIGHTS=$PWD/{FOLDER}", step="weights", needs=("secret",)),),
        )
    if isinstance(weights, ServerWeights):
        return Step(
            title=TITLE,
            words=(
                Said(
                    text="The server fetches %(what)s itself, into the folder that it is given.",
                    values={"what": weights.what},
                ),
            ),
            codes=(Code(text=f'WEIGHTS=$PWD/{FOLDER}\nmkdir -p "$WEIGHTS"', step="weights"),),
        )
    hub = weights.kind == "huggingface"
    pinned = weights.revision != UNRESOLVED
    words = [*(("hf", "download") if hub else ("modelscope", "download", "--model"))]
    words += [weights.repository]
    words += ["--revision", weights.revision] if pinned else []
    words += ["--local-dir" if hub else "--local_dir", FOLDER]
    values = {"repository": weights.repository, "hub": "Hugging Face" if hub else "ModelScope"}
    return Step(
        title=TITLE,
        words=(
            Said(
                text="They are `%(repository)s` on %(hub)s, at revision `%(revision)s`.",
                values={**values, "revision": weights.revision},
            )
            if pinned
            else Said(text="They are `%(repository)s` on %(hub)s.", values=values),
        ),
        codes=(
            Code(
                text=f"{shlex.join(words)}\nWEIGHTS=$PWD/{FOLDER}",
                step="weights",
                needs=("network",),
            ),
        ),
    )
