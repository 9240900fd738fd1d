"""The image, and the software in it."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.attesting.predicates import RELEASE
from relforge.card.model import Code, EnvironmentRow, PatchRow, Row, Said, SourceRow
from relforge.card.parts.material import Material
from relforge.manifest.common import UNKNOWN
from relforge.manifest.facts import UNRESOLVED
from relforge.stages.scan import ScanResult
from relforge.ui.text import size

# Distributions that a reader looks for, by the name that the row has.
_PACKAGES = (
    ("PyTorch", ("torch",)),
    ("vLLM", ("vllm",)),
    ("SGLang", ("sglang",)),
    ("PaddleNLP", ("paddlenlp",)),
    ("FlagScale", ("flag_scale", "flagscale")),
    ("FlagGems", ("flag_gems",)),
    ("FlagTree", ("flagtree",)),
    ("Triton", ("triton",)),
    ("Transformers", ("transformers",)),
    ("NumPy", ("numpy",)),
)


def image_rows(material: Material) -> tuple[Row, ...]:
    """Reference with digest, size, age; of an image that is not built what is known of it."""
    return tuple(_image(material))


def _image(material: Material) -> Iterator[Row]:
    build, registry = material.build, material.registry
    if build is None:
        yield from _image_to_come(material)
        return
    if registry is not None:
        yield Row(name="Image reference", value=_code(f"{registry}@{build.image_digest}"))
    else:
        yield Row(name="Name", value=_code(build.image_name))
    yield Row(name="Digest", value=_code(build.image_digest))
    yield Row(name="Size, compressed", value=Said.plain(size(build.compressed_bytes)))
    yield Row(name="Size, unpacked", value=Said.plain(size(build.unpacked_bytes)))
    yield Row(name="Architecture", value=Said.plain(build.architecture))
    for other in build.platforms[1:]:
        yield Row(
            name="Also for",
            value=Said(
                text="%(platform)s, `%(digest)s`; not tested in this run: what was found on that "
                "architecture is attached to this digest",
                values={"platform": other.platform, "digest": other.digest},
            ),
        )
    yield Row(name="Created", value=Said.plain(build.created))
    yield Row(
        name="Base image",
        value=Said(
            text="%(how)s, `%(digest)s`",
            values={"how": build.base_how, "digest": build.base_digest},
        ),
    )
    if (sbom := material.sbom) is not None and sbom.outputs:
        yield Row(
            name="Bill of materials",
            value=Said(
                text="%(packages)d packages: `evidence/sbom.spdx.json` (SPDX), "
                "`evidence/sbom.cdx.json` (CycloneDX)",
                values={"packages": sum(sbom.packages.values())},
            ),
        )
    signed = material.signed
    yield Row(
        name="Signature",
        value=Said(text="none; the command below checks every part against the digest")
        if signed is None
        else Said(
            text="%(algorithm)s, key id `%(keyid)s`",
            values={"algorithm": signed.algorithm, "keyid": signed.keyid},
        ),
    )
    if material.scan is not None:
        yield from _scanned(material.scan)


def _scanned(scan: ScanResult) -> Iterator[Row]:
    yield Row(
        name="Content scan",
        value=Said(
            text="%(verdict)s: %(files)s files searched for secrets, private keys and sources that "
            "are kept back",
            values={"verdict": scan.verdict or "not-run", "files": f"{scan.files:,}"},
        ),
    )
    known = scan.vulnerabilities
    if known.state == "run":
        value = Said(
            text="%(counts)s (%(scanner)s, database of %(date)s)",
            values={
                "counts": known.reason,
                "scanner": known.scanner or "?",
                "date": (known.database or "?").partition("T")[0],
            },
        )
    else:
        value = Said(text="not-run (%(reason)s)", values={"reason": known.reason})
    yield Row(name="Known vulnerabilities", value=value)


def _image_to_come(material: Material) -> Iterator[Row]:
    device, locked = material.device, material.locked_image
    given = material.release.build.image
    if given is None:
        yield Row(name="State", value=Said(text="not built where this card was written"))
    elif given.on_request is not None:
        yield Row(name="State", value=Said(text="handed out by its owner on request"))
    name = "Image reference" if given is not None else "Base image"
    if locked is not None:
        digest = locked.digest
        if given is None or given.on_request is None:
            yield Row(name=name, value=_code(locked.reference))
        yield Row(
            name="Digest" if given is not None else "Base image, digest",
            value=Said(text="not looked up yet; the second step below shows how")
            if digest == UNRESOLVED and given is not None and given.on_request is None
            else Said(text="not looked up yet")
            if digest == UNRESOLVED
            else _code(digest),
        )
    if device.architecture != UNKNOWN:
        yield Row(name="Architecture", value=Said.plain(device.architecture))


def verify_image(material: Material) -> Code | None:
    """The command that checks each file of the layout against the digest in its name."""
    if material.build is None:
        return None
    manifest = material.build.image_digest.removeprefix("sha256:")
    return Code(
        text=f"(cd image/blobs/sha256 && test -f {manifest} &&\n"
        '  for blob in *; do echo "$blob  $blob"; done | sha256sum --check --quiet) && echo intact',
        step="verify",
        expect="intact",
    )


_KEY = "maker.pub.pem"


def verify_signature(material: Material) -> Code | None:
    """The commands that check who made it, with a key that the reader got elsewhere."""
    if material.build is None or material.signed is None:
        return None
    digest, registry = material.build.image_digest, material.registry
    if registry is not None:
        checks = f"cosign verify --key {_KEY} --insecure-ignore-tlog \\\n  {registry}@{digest}"
    else:
        # The last statement covers the image, the record and, by their hashes, all other files.
        checks = (
            f"cosign verify-blob-attestation --key {_KEY} --insecure-ignore-tlog \\\n"
            f"  --type {RELEASE} \\\n"
            f"  --signature release.dsse.json image/blobs/sha256/{digest.removeprefix('sha256:')}"
        )
    return Code(
        text=f"openssl pkey -pubin -in {_KEY} -outform DER | sha256sum\n{checks}\n"
        f"relforge verify . --key {_KEY}",
        step="signature",
        needs=("secret",) if registry is None else ("secret", "network"),
    )


def environment_rows(material: Material) -> tuple[EnvironmentRow, ...]:
    """Driver, SDK, Python and packages: read back from the image where there is one.

    Of an image that its maker built nothing is known; the device's stack is named as what it is.
    """
    return tuple(_environment(material))


def _environment(material: Material) -> Iterator[EnvironmentRow]:
    device, build = material.device, material.build
    stack = device.stack
    ours = material.release.build.image is None
    if device.accelerator:
        driver = stack.driver if stack.driver not in (UNKNOWN, "none") else None
        if driver is not None:
            yield EnvironmentRow(
                name="Driver that the host needs" if ours else "Driver in the device's stack",
                value=Said.plain(driver),
                read=False,
            )
        if stack.sdk != UNKNOWN and stack.sdk:
            yield EnvironmentRow(
                name="SDK" if ours else "SDK in the device's stack",
                value=Said.plain(", ".join(stack.sdk)),
                read=False,
            )
    python = build.python if build else None
    if python is not None:
        yield EnvironmentRow(name="Python", value=Said.plain(python), read=True)
    elif stack.python != UNKNOWN and ours:
        yield EnvironmentRow(name="Python", value=Said.plain(stack.python), read=False)
    if build is not None and build.python_packages:
        canonical = {_canonical(name): v for name, v in build.python_packages.items()}
        for name, spellings in _PACKAGES:
            version = next((canonical[s] for s in spellings if s in canonical), None)
            if version:
                yield EnvironmentRow(name=name, value=Said.plain(version), read=True)
    elif ours:
        pinned = {
            "PyTorch": () if stack.torch == UNKNOWN else stack.torch,
            "Triton": () if stack.triton in (UNKNOWN, "none") else (stack.triton,),
            "FlagTree": () if stack.flagtree in (UNKNOWN, "none") else (stack.flagtree,),
            "NumPy": () if stack.numpy in (UNKNOWN, "none") else (stack.numpy,),
        }
        for name, requirements in pinned.items():
            if requirements:
                yield EnvironmentRow(name=name, value=_code(", ".join(requirements)), read=False)


def source_rows(material: Material) -> tuple[SourceRow, ...]:
    """Each pinned source with its tree."""
    packages = material.build.packages if material.build else ()
    # A source may hold several packages: the one with native code is what a reader asks about.
    by_mode = sorted(material.release.build.packages, key=lambda p: p.native.mode != "none")
    declared = {p.source: p.native.mode for p in by_mode}

    def native(name: str) -> Said:
        for package in sorted(packages, key=lambda p: p.native == "none"):
            if package.source == name:
                if package.native == "precompiled":
                    return Said(
                        text="precompiled, from %(wheel)s",
                        values={"wheel": package.native_from or "?"},
                    )
                return Said(text=_NATIVE[package.native])
        return Said(text=_NATIVE[declared[name]] if name in declared else "read by the build")

    return tuple(
        SourceRow(
            name=name,
            identity=source.identity,
            tree=material.trees.get(name),
            native=native(name),
        )
        for name, source in material.sources.items()
    )


_NATIVE = {
    "compiled": "compiled in the build",
    "precompiled": "precompiled elsewhere",
    "prebuilt": "prebuilt wheel, packed again",
    "scripts": "built by the tree's own scripts",
    "none": "no native code",
}


def patch_rows(material: Material) -> tuple[PatchRow, ...]:
    """Each patch set with the tree that it makes."""
    return tuple(
        PatchRow(
            name=name,
            source=locked.source,
            count=len(locked.patches) or None,
            result_tree=material.trees.get(locked.source),
            sealed=name in material.sealed,
        )
        for name, locked in material.patches.items()
    )


def _code(text: str) -> Said:
    return Said.plain(f"`{text}`")


def _canonical(name: str) -> str:
    return name.replace("-", "_").casefold()


def part_licenses(material: Material) -> tuple[Row, ...]:
    """The licences of the Python packages in the image, as they state them themselves.

    By the bill of materials, where there is one: by SPDX's identifiers.
    """
    by_license: dict[str, list[str]] = {}
    told = material.build.licenses if material.build else {}
    if material.sbom is not None and material.sbom.outputs:
        told = material.sbom.python_licences
    for name, stated in told.items():
        by_license.setdefault(stated, []).append(name)
    ordered = sorted(by_license.items(), key=lambda row: (-len(row[1]), row[0]))
    return tuple(
        Row(
            name=stated,
            value=Said.plain(", ".join(sorted(names, key=str.casefold))),
        )
        for stated, names in ordered
    )


def all_licenses(material: Material) -> Said | None:
    """Where the licences of every package are, Debian's too."""
    if material.sbom is None or not material.sbom.outputs:
        return None
    return Said(
        text="Those of all %(packages)d packages, and of the sources, are in "
        "`evidence/licenses.json`.",
        values={"packages": sum(material.sbom.packages.values())},
    )
