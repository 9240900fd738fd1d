"""Questions that are not independent: several of one group, or one question asked repeatedly.

Answers to questions of one passage, or repeats of one question, tend to be right or wrong together.
Counted as independent they would promise a narrower interval than there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from relforge.evaluation.statistics.library import library


def design_effect(
    differences: Sequence[float], groups: Sequence[str], confidence: float = 0.95
) -> float:
    """How many times more questions this sample needs than one of independent questions.

    ``differences`` has result minus reference of each question (-1, 0 or 1), ``groups`` the group
    of each. The variance of their mean by groups (Liang and Zeger 1986, Biometrika 73:13-22; for
    evaluations: Miller 2024, Adding error bars to evals, arXiv 2411.00640)::

        V = G / (G - 1)  sum over groups (sum over its questions (d - mean))^2 / n^2

    is divided by that of independent questions, and counts are divided by the quotient (Rao and
    Scott 1992, A simple method for the analysis of clustered binary data, Biometrics 48:577-585).
    With few groups V itself is uncertain: the quotient is widened by (t / z)^2, Student's t having
    G - 1 degrees of freedom. It is at least 1. Where no difference varies, nothing tells how much
    the questions of a group have in common, and all of it is assumed: sum of squared sizes / n.

    Raises ValueError with fewer than two groups.
    """
    n = len(differences)
    mean = sum(differences) / n
    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for difference, group in zip(differences, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + difference - mean
        sizes[group] = sizes.get(group, 0) + 1
    count = len(sums)
    if count < 2:
        raise ValueError("one group of questions tells nothing of how groups differ")
    if len(set(differences)) == 1:
        return sum(size * size for size in sizes.values()) / n
    independent = sum((difference - mean) ** 2 for difference in differences)
    clustered = count / (count - 1) * sum(one * one for one in sums.values())
    stats = library("scipy.stats")
    tail = 0.5 + confidence / 2
    widened = (float(stats.t.ppf(tail, count - 1)) / float(stats.norm.ppf(tail))) ** 2
    return max(1.0, clustered / independent * widened)
