"""The steps before the start: the image, and the sources that only a key opens."""

from __future__ import annotations

import shlex

from relforge.card.model import Code, Said, Step
from relforge.card.parts.addresses import mail
from relforge.card.parts.launching import by_digest
from relforge.card.parts.material import Material
from relforge.lock import LockedImage
from relforge.manifest.facts import UNRESOLVED, RequestedImage
from relforge.stages.build import BuildResult

_KEYS = Said(text="`KEYS` is the file of your key, or the folder that it lies in.")


def image_step(material: Material) -> Step:
    """How a reader comes to the image that the start command names."""
    given, locked = material.release.build.image, material.locked_image
    if material.build is not None:
        words, code = _published(material, material.build)
    elif given is None:
        words, code = _to_be_built(material)
    elif given.on_request is not None:
        words, code = _asked_for(given.on_request)
    else:
        assert locked is not None
        words, code = _pulled(locked)
    return Step(title="The image", words=words, codes=(code,))


def _published(material: Material, build: BuildResult) -> tuple[tuple[Said, ...], Code]:
    # The image of the folder has no name in the registry: what is loaded is not what a command with
    # the registry's name runs. So there is one way, and it is that of the start command.
    if material.registry is not None:
        return (), _pull(f"{material.registry}@{build.image_digest}")
    title = Said(text="From the folder that this card lies in:")
    return (), Code(text="tar -C image -c . | docker load", step="load", title=title)


def _to_be_built(material: Material) -> tuple[tuple[Said, ...], Code]:
    words = (
        Said(text="It was not built here, so there is none to load or to pull."),
        *((_KEYS,) if material.sealed else ()),
        Said(text="Where its sources can be reached, this builds it:"),
    )
    keys = " --key-path KEYS" if material.sealed else ""
    return words, Code(
        text=f"relforge build --release {material.release.name}{keys}",
        step="build",
        needs=("network", "secret") if material.sealed else ("network",),
    )


def _asked_for(image: RequestedImage) -> tuple[tuple[Said, ...], Code]:
    ask = Said(
        text="It is handed out on request: write to %(contact)s and ask for %(what)s. Its archive "
        "is loaded so:",
        values={"contact": mail(image.contact), "what": image.ask_for},
    )
    # Its name is its owner's, whose registry a reader may not reach.
    load = "IMAGE=$(docker load --quiet --input image.tar | sed 's/^Loaded image[^:]*: //')"
    return (ask,), Code(text=load, step="load", needs=("secret",))


def _pulled(image: LockedImage) -> tuple[tuple[Said, ...], Code]:
    if image.digest != UNRESOLVED:
        return (), _pull(by_digest(image.reference, image.digest))
    look_up = Said(
        text="Nobody looked up yet which digest %(reference)s stands for, and a tag can move. Look "
        "it up, note it, and use the digest from then on:",
        values={"reference": f"`{image.reference}`"},
    )
    name, reference = image.reference.rpartition(":")[0], shlex.quote(image.reference)
    template = shlex.quote("{{.Manifest.Digest}}")
    commands = (
        f"DIGEST=$(docker buildx imagetools inspect --format {template} \\\n  {reference})",
        f"IMAGE={shlex.quote(name)}@$DIGEST",
        'docker pull "$IMAGE"',
    )
    return (look_up,), Code(text="\n".join(commands), step="pull", needs=("network",))


def _pull(reference: str) -> Code:
    return Code(text=f"docker pull {reference}", step="pull", needs=("network",))


def unpatch_step(material: Material) -> Step:
    """How whoever has the key reads the sources that the image was built from."""
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
