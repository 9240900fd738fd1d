"""What people call licences, and the SPDX identifiers of these (https://spdx.org/licenses/).

Names that stand for several licences have none: ``BSD License`` has two or three clauses, ``Apache
Software License`` was the name of version 1.1, too (PEP 639 lists such classifiers).
"""

from __future__ import annotations

import re

_NAMES = {
    "0BSD": ("zero-clause bsd", "bsd zero clause license"),
    "Apache-2.0": (
        "apache 2", "apache 2.0", "apache-2", "apache2", "apache2.0", "apache v2", "apache v2.0",
        "apache license 2", "apache license 2.0", "apache license v2", "apache license v2.0",
        "apache license, version 2.0", "apache license version 2.0", "apache 2.0 license",
        "apache software license 2.0", "apache-2.0 license",
    ),
    "Artistic-2.0": ("artistic license 2.0",),
    "BSD-2-Clause": (
        "bsd-2", "bsd 2-clause", "2-clause bsd", "bsd 2-clause license", "2-clause bsd license",
        "simplified bsd", "bsd-2-clause license", "freebsd",
    ),
    "BSD-3-Clause": (
        "bsd-3", "bsd 3-clause", "3-clause bsd", "bsd 3-clause license", "3-clause bsd license",
        "new bsd", "new bsd license", "modified bsd", "bsd-3-clause license",
    ),
    "BSD-4-Clause": ("bsd 4-clause", "4-clause bsd"),
    "BSL-1.0": (
        "boost", "bsl-1", "boost software license 1.0", "boost software license 1.0 (bsl-1.0)",
    ),
    "CC0-1.0": ("cc0", "cc0 1.0", "cc0 1.0 universal (cc0 1.0) public domain dedication"),
    "EPL-1.0": ("eclipse public license 1.0 (epl-1.0)",),
    "EPL-2.0": ("eclipse public license 2.0 (epl-2.0)",),
    "EUPL-1.2": ("european union public licence 1.2 (eupl 1.2)",),
    "HPND": ("historical permission notice and disclaimer (hpnd)",),
    "ISC": ("isc license", "isc license (iscl)"),
    "MIT": ("mit license", "the mit license", "the mit license (mit)", "expat", "mit/expat"),
    "MIT-0": ("mit no attribution license (mit-0)",),
    "MPL-1.1": ("mozilla public license 1.1 (mpl 1.1)",),
    "MPL-2.0": (
        "mpl 2.0", "mpl-2", "mpl2", "mozilla public license 2.0",
        "mozilla public license 2.0 (mpl 2.0)",
    ),
    "NCSA": ("university of illinois/ncsa open source license",),
    "PSF-2.0": ("python software foundation license", "psf", "psf license", "psfl"),
    "UPL-1.0": ("universal permissive license (upl)",),
    "Unlicense": ("the unlicense", "the unlicense (unlicense)"),
    "Zlib": ("zlib license", "zlib/libpng", "zlib/libpng license"),
}  # fmt: skip
_KNOWN = {name: spdx for spdx, names in _NAMES.items() for name in names}

# A GNU licence says that, where a program names no version of it, any published one may be chosen.
_FIRST = {"GPL": "1.0", "LGPL": "2.0", "AGPL": "3.0", "GFDL": "1.1"}
_LONG = {
    "gnu affero general public license": "AGPL",
    "gnu lesser general public license": "LGPL",
    "gnu library or lesser general public license": "LGPL",
    "gnu general public license": "GPL",
    "gnu free documentation license": "GFDL",
}
_GNU = re.compile(
    r"(?P<family>agpl|lgpl|gpl|gfdl)"
    r"(?P<invariants>-niv)?"
    r"(?:[ -]?v?(?:ersion ?)?(?P<version>\d+(?:\.\d+)*))?"
    r"(?P<later>\+|[ -]or[ -](?:any[ -])?later|[ -](?:and|or)[ -]newer)?"
    r"(?:[ -](?:only|license))?"
    # What follows is an exception or a name for one: it gives more rights, never fewer.
    r"(?P<rest>[ -]with\b.*|-.*exception.*)?",
    re.IGNORECASE,
)


def spdx_of(words: str) -> str | None:
    """The SPDX identifier of a licence by the words that people use for it, None if unknown.

    Of a GNU licence with an exception that SPDX does not know by these words, the licence alone.
    """
    text = " ".join(words.split()).casefold().rstrip(".")
    if (known := _KNOWN.get(text)) is not None:
        return known
    return _gnu(text)


def _gnu(text: str) -> str | None:
    for name, short in _LONG.items():
        if text.startswith(name):
            # A classifier repeats the short name in brackets: "... v3 or later (GPLv3+)".
            text = short + re.sub(r" *\([^)]*\)$", "", text.removeprefix(name))
            break
    found = _GNU.fullmatch(text)
    if found is None:
        return None
    family, version = found["family"].upper(), found["version"]
    if version is None:
        return f"{family}-{_FIRST[family]}-or-later"
    version = version if "." in version else f"{version}.0"
    if version.count(".") > 1:
        version = version.removesuffix(".0")
    if family == "GFDL" and found["invariants"]:
        version = f"{version}-no-invariants"
    return f"{family}-{version}-{'or-later' if found['later'] else 'only'}"
