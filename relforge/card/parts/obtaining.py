"""The steps before the start: the image, and the sources that only a key opens."""

from __future__ import annotations

import shlex

from relforge.card.model import Code, Said, Step
from relforge.card.parts.addresses import mail
from relforge.card.parts.launching import by_digest
from relforge.card.parts.material import Material
from relforge.manifest.facts import UNRESOLVED

_KEYS = Said(text="`KEYS` is the file of your key, or the folder that it lies in.")


def image_step(material: Material) -> Step:
    title = "The image"
    build, given = material.build, material.release.build.image
    if build is not None:
        # The image of the folder has no name in the registry: what is loaded is not what a command
        # with the registry's name runs. So there is one way, and it is that of the start command.
        if material.registry is not None:
            pull = f"docker pull {material.registry}@{build.image_digest}"
            return Step(
                title=title,
                words=(),
                codes=(Code(text=pull, step="pull", needs=("network",)),),
            )
        load = Code(
            text="tar -C image -c . | docker load",
            step="load",
            title=Said(text="From the folder that this card lies in:"),
        )
        return Step(title=title, words=(), codes=(load,))
    if given is None:
        keys = " --key-path KEYS" if material.sealed else ""
        return Step(
            title=title,
            words=(
                Said(text="It was not built here, so there is none to load or to pull."),
                *((_KEYS,) if material.sealed else ()),
                Said(text="Where its sources can be reached, this builds it:"),
            ),
            codes=(
                Code(
                    text=f"relforge build --release {material.release.name}{keys}",
                    step="build",
                    needs=("network", "secret") if material.sealed else ("network",),
                ),
            ),
        )
    locked = material.locked_image
    assert locked is not None
    if given.on_request is not None:
        return Step(
            title=title,
            words=(
                Said(
                    text="It is handed out on request: write to %(contact)s and ask for %(what)s. "
                    "Its archive is loaded so:",
                    values={
                        "contact": mail(given.on_request.contact),
                        "what": given.on_request.ask_for,
                    },
                ),
            ),
            codes=(
                Code(
                    # Its name is its owner's, whose registry a reader may not reach.
                    text="IMAGE=$(docker load --quiet --input image.tar | "
                    "sed 's/^Loaded image[^:]*: //')",
                    step="load",
                    needs=("secret",),
                ),
            ),
        )
    if locked.digest == UNRESOLVED:
        name = locked.reference.rpartition(":")[0]
        template = "{{.Manifest.Digest}}"
        return Step(
            title=title,
            words=(
                Said(
                    text="Nobody looked up yet which digest %(reference)s stands for, and a tag "
                    "can move. Look it up, note it, and use the digest from then on:",
                    values={"reference": f"`{locked.reference}`"},
                ),
            ),
            codes=(
                Code(
                    text="DIGEST=$(docker buildx imagetools inspect --format "
                    f"{shlex.quote(template)} \\\n  {shlex.quote(locked.reference)})\n"
                    f'IMAGE={shlex.quote(name)}@$DIGEST\ndocker pull "$IMAGE"',
                    step="pull",
                    needs=("network",),
                ),
            ),
        )
    return Step(
        title=title,
        words=(),
        codes=(
            Code(
                text=f"docker pull {by_digest(locked.reference, locked.digest)}",
                step="pull",
                needs=("network",),
            ),
        ),
    )


def unpatch_step(material: Material) -> Step:
    contact = material.device.vendor.contact
    words = [
        Said(
            text="Serving does not need this step. The patches of this release are sealed; whoever "
            "has their key can read what the image was built from."
        )
    ]
    if material.build is not None:
        words.append(_KEYS)
    if contact is not None:
        words.append(
            Said(text="The key is handed out by %(contact)s.", values={"contact": mail(contact)})
        )
    return Step(
        title="The patched sources",
        words=tuple(words),
        codes=(
            Code(
                text=f"relforge unpatch --release {material.release.name} --key-path KEYS "
                "--dir sources",
                step="unpatch",
                needs=("secret",),
            ),
        ),
    )
