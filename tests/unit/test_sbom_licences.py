"""Licences by the words that people use for them, and the site's policy on them."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identify.vendor.licenses import LICENSES

from relforge.manifest.publishing import LicensePolicy
from relforge.sbom import debian, expressions
from relforge.sbom.expressions import Licence
from relforge.sbom.policy import Holder, Rules
from relforge.sbom.python import stated
from relforge.sbom.texts import is_licence_file, licence_of

APACHE = dict(LICENSES)["Apache-2.0"]
OSI = "Classifier: License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("words", "expression"),
    [
        ("MIT", "MIT"),
        ("mit license", "MIT"),
        ("Expat", "MIT"),
        ("Apache 2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("BSD (3-clause)", "LicenseRef-BSD-3-clause"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("LGPLv3", "LGPL-3.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL", "GPL-1.0-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", "LGPL-2.0-or-later"),
        ("GNU Affero General Public License v3", "AGPL-3.0-only"),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        ("GPL-2+ with Autoconf exception", "GPL-2.0-or-later"),
        ("GPL-3+-autoconf-exception", "GPL-3.0-or-later"),
        ("Apache 2.0 OR mit", "Apache-2.0 OR MIT"),
        ("Expat AND MIT", "MIT"),
        ("MIT AND Corp-EULA", "MIT AND LicenseRef-Corp-EULA"),
        # Names of several licences, or of none.
        ("BSD License", "LicenseRef-BSD-License"),
        ("Apache Software License", "LicenseRef-Apache-Software-License"),
        ("Corp EULA", "LicenseRef-Corp-EULA"),
        ("LicenseRef-Corp", "LicenseRef-Corp"),
        ("GPLaza", "LicenseRef-GPLaza"),
        ("a" * 61, "LicenseRef-35d5fc17cfbbadd0"),
    ],
)
def test_what_words_stand_for(words: str, expression: str) -> None:
    found = expressions.of(words)
    assert found.expression == expression
    assert found.identified == ("LicenseRef" not in expression)
    # Whatever is not SPDX's keeps its words.
    assert all(text in words for text in found.refs.values())
    assert bool(found.refs) == ("LicenseRef" in expression)


@given(st.text(max_size=200))
def test_any_words_give_an_expression_that_can_be_read_again(words: str) -> None:
    found = expressions.of(words)
    expressions.parse(found.expression)
    assert expressions.of(found.expression).expression == found.expression


def test_joining_names_each_part_once_and_in_one_order() -> None:
    parts = [expressions.of(w) for w in ("MIT", "BSD-3-Clause AND MIT", "MIT OR ISC", "Own Words")]
    one, other = expressions.both(parts), expressions.both(reversed(parts))
    assert one == other
    assert one is not None
    assert one.expression == "BSD-3-Clause AND LicenseRef-Own-Words AND MIT AND (MIT OR ISC)"
    assert one.refs == {"LicenseRef-Own-Words": "Own Words"}
    assert expressions.both([]) is None


@pytest.mark.parametrize(
    ("heads", "files", "expression", "basis"),
    [
        (("License-Expression: MIT OR Apache-2.0", "License: BSD"), (),
         "MIT OR Apache-2.0", "License-Expression"),
        (("License: Apache 2.0", OSI + "MIT License"), (), "Apache-2.0", "License"),
        (("License: BSD", OSI + "MIT License"), (), "MIT", "classifiers"),
        (("License: UNKNOWN", OSI + "MIT License", OSI + "Apache Software License"), (),
         "LicenseRef-Apache-Software-License AND MIT", "classifiers"),
        ((OSI + "Apache Software License",), (APACHE,), "Apache-2.0", "licence file"),
        (("License: BSD",), ("Do what you want.",), "LicenseRef-BSD", "License"),
        ((), (APACHE, "Do what you want."), "Apache-2.0", "licence file"),
    ],
)  # fmt: skip
def test_what_a_distribution_states(
    heads: tuple[str, ...], files: tuple[str, ...], expression: str, basis: str
) -> None:
    metadata = "\n".join(("Metadata-Version: 2.4", "Name: x", *heads, "", "License: in the text"))
    found = stated(metadata, files)
    assert found is not None
    assert (found.licence.expression, found.basis) == (expression, basis)


def test_a_whole_text_in_the_metadata_is_read_as_one() -> None:
    folded = "\n        ".join(dict(LICENSES)["MIT"].splitlines())
    found = stated(f"Name: x\nLicense: {folded}\n\n")
    assert found is not None
    assert found.licence.expression == "MIT"
    unknown = stated("Name: x\nLicense: Line one of the licence\n        which goes on and on, "
                     "and forbids all that people would want to do with it\n\n")  # fmt: skip
    assert unknown is not None
    (text,) = unknown.licence.refs.values()
    assert text.startswith("Line one")
    assert stated("Name: x\n\n") is None


@pytest.mark.parametrize(
    ("synopsis", "expression"),
    [
        ("GPL-2+ or Artistic-2.0", "GPL-2.0-or-later OR Artistic-2.0"),
        ("GPL-2+ or Apache-2.0, and Expat", "(GPL-2.0-or-later OR Apache-2.0) AND MIT"),
        ("Expat or GPL-2+ and ISC", "MIT OR (GPL-2.0-or-later AND ISC)"),
        ("BSD-3-clause and/or GPL-3", "BSD-3-Clause OR GPL-3.0-only"),
        ("LGPLv3+_or_GPLv2+", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
        ("GPL-3 or later", "GPL-3.0-or-later"),
        ("public-domain", "LicenseRef-public-domain"),
    ],
)
def test_what_debian_writes(synopsis: str, expression: str) -> None:
    found = debian.synopsis(synopsis)
    parsed = {str(expressions.licensing().dedup(expressions.parse(e)).simplify().render())
              for e in (found.expression, expression)}  # fmt: skip
    assert len(parsed) == 1, found.expression


def test_a_copyright_file_in_free_text_is_left_to_syft() -> None:
    assert debian.licence_of("Licensed under the GPL.\n") is None
    assert debian.licence_of("Format: x\n\nFiles: *\nCopyright: y\n") is None


def test_licence_texts_are_told_apart() -> None:
    for spdx, text in LICENSES:
        found = licence_of(text)
        assert found is not None
        wanted = expressions.read(spdx)
        assert found == wanted
    # Many files leave out how to apply it.
    assert licence_of(APACHE.partition("APPENDIX")[0]) == Licence(expression="Apache-2.0")
    assert licence_of(APACHE.replace("grants to You", "denies to You", 1)[:5000]) is None
    assert licence_of("") is None


@pytest.mark.parametrize("path", ["LICENSE", "a/LICENSE.md", "COPYING.LESSER", "LICENCE-MIT"])
def test_names_of_licence_files(path: str) -> None:
    assert is_licence_file(path)


@pytest.mark.parametrize("path", ["license.py", "a/licenses/x.txt", "LICENSED", "copying_it.go"])
def test_names_of_other_files(path: str) -> None:
    assert not is_licence_file(path)


@pytest.mark.parametrize(
    ("forbidden", "licence", "hit"),
    [
        (["AGPL-3.0-only"], "AGPL-3.0-or-later", True),
        (["AGPL-3.0"], "AGPL-3.0-or-later", True),
        (["AGPL-3.0-or-later"], "AGPL-3.0-only", True),
        (["GPL-3.0-only"], "GPL-2.0-or-later", False),
        (["GPL-3.0-only"], "GPL-3.0-or-later", True),
        (["GPL-2.0-or-later"], "GPL-3.0-only", True),
        (["GPL-2.0-or-later"], "GPL-1.0-or-later", False),
        (["GPL-2.0-only", "GPL-3.0-only"], "GPL-2.0-or-later", True),
        (["GPL-3.0-only"], "LGPL-3.0-only", False),
        (["GPL-3.0-only"], "MIT OR GPL-3.0-only", False),
        (["GPL-3.0-only", "MIT"], "MIT OR GPL-3.0-only", True),
        (["GPL-3.0-only"], "MIT AND GPL-3.0-only", True),
        (["GPL-3.0-only"], "ISC AND (MIT OR GPL-3.0-only)", False),
        (["GPL-3.0-only"], "(MIT AND GPL-3.0-only) OR GPL-3.0-or-later", True),
        (["GPL-3.0-only"], "GPL-3.0-or-later WITH GCC-exception-3.1", True),
        (["GPL-3.0-or-later WITH GCC-exception-3.1"], "GPL-3.0-or-later", False),
        (["GPL"], "GPL-2.0-only", True),
        (["GPL"], "LGPL-2.1-only", False),
        (["mit"], "MIT", True),
        (["BSD"], "BSD-3-Clause", True),
        (["Corp EULA"], "Corp EULA of 2024", True),
        (["Corp EULA"], "Corporate EULA", False),
        (["SSPL-1.0"], "MIT", False),
        ([], "AGPL-3.0-only", False),
    ],
)
def test_what_the_policy_forbids(forbidden: list[str], licence: str, hit: bool) -> None:
    rules = Rules(LicensePolicy(forbidden=tuple(forbidden)))
    found = rules.forbids(expressions.of(licence))
    assert bool(found) is hit
    assert {entry for _, entry in found} <= set(forbidden)


def test_a_hit_names_the_part_and_its_entry_and_may_be_allowed_by_name() -> None:
    policy = LicensePolicy(forbidden=("GPL-3.0-only", "Corp"), allowed_packages={"my_tool": "ours"})
    holders = [
        Holder(name=name, version="1", licence=expressions.of(words), where="here")
        for name, words in (("my-tool", "MIT AND GPL-3+"), ("other", "Corp EULA"), ("free", "MIT"))
    ]
    tool, other = Rules(policy).hits(holders)
    assert (tool.name, tool.allowed) == ("my-tool", "ours")
    assert (tool.licences, tool.forbidden) == (("GPL-3.0-or-later",), ("GPL-3.0-only",))
    assert (other.name, other.allowed, other.forbidden) == ("other", None, ("Corp",))


def test_threads_that_read_the_first_licences_at_once_all_do() -> None:
    """Releases are looked at side by side; the library fills its tokenizer at first use."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(5):
            expressions._licensing.cache_clear()
            expressions.read.cache_clear()
            expressions.licensing()
            ready = threading.Barrier(6)

            def first(text: str, ready: threading.Barrier = ready) -> str:
                ready.wait()
                found = expressions.read(text)
                assert found is not None
                return found.expression

            words = [f"MIT OR Apache-2.0 AND Zlib OR BSD-{n % 2 + 2}-Clause" for n in range(6)]
            with ThreadPoolExecutor(6) as pool:
                assert len(set(pool.map(first, words))) == 2
    finally:
        sys.setswitchinterval(before)
