"""JUnit XML, as GitHub's and GitLab's readers and Jenkins take it."""

from __future__ import annotations

import re
from collections.abc import Callable

import junitparser

from relforge.ci.report import Case, Report, Suite

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESULTS = {
    "failed": junitparser.Failure,
    "error": junitparser.Error,
    "skipped": junitparser.Skipped,
}


def junit_xml(report: Report, clean: Callable[[str], str] = lambda text: text) -> bytes:
    """The whole file; ``clean`` is applied to every text of it. Times are seconds."""

    def text(value: str) -> str:
        return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", clean(value))

    found = junitparser.JUnitXml(name=text(report.title))
    for suite in report.suites:
        found.add_testsuite(_suite(suite, text))
    found.update_statistics()  # type: ignore[no-untyped-call]
    # The schema of Jenkins' readers has no count of what was skipped here, and times in ms at most.
    found._elem.attrib.pop("skipped", None)
    for one in (found, *found):
        one.time = round(one.time, 3)
    return bytes(found.tostring())  # type: ignore[no-untyped-call]


def _suite(suite: Suite, text: Callable[[str], str]) -> junitparser.TestSuite:
    one = junitparser.TestSuite(name=text(suite.name))
    for name, value in suite.facts.items():
        one.add_property(name, text(value))
    one.add_testcases([_case(case, suite, text) for case in suite.cases])
    return one


def _case(case: Case, suite: Suite, text: Callable[[str], str]) -> junitparser.TestCase:
    one = junitparser.TestCase(text(case.name), text(suite.name), round(case.seconds, 3))
    if case.state == "passed":
        if case.why:
            one.system_out = text(case.why)
        return one
    result = _RESULTS[case.state](message=text(case.why))
    if case.details:
        result.text = text(case.details)
    one.result = result
    return one
