"""The smallest subset for which something holds, by binary splitting; and hitting sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from math import comb

_MOST_COMBINATIONS = 200_000
_FEW = 8

Holds = Callable[[Sequence[str]], bool]


def minimal(
    candidates: Sequence[str],
    holds: Holds,
    *,
    kept: Sequence[str] = (),
    again: Callable[[Sequence[str]], Sequence[str] | None] | None = None,
    on_kept: Callable[[Sequence[str]], None] = lambda _: None,
) -> list[str]:
    """A subset of *kept* and *candidates*, *kept* in it, for which *holds* is true.

    Where a superset of a set that holds holds as well, nothing can be left out of what was added
    (it is 1-minimal in the sense of Zeller and Hildebrandt 2002, Simplifying and Isolating
    Failure-Inducing Input, IEEE Transactions on Software Engineering 28:183-200). Elsewhere it
    still holds, and the caller has to try what can be left out.

    It must be known that *holds* is true of everything together. Then the shortest prefix of the
    candidates that, with *kept*, is enough ends in an element that is needed; it is found by
    halving, is kept, and what stands before it is searched again (Bradley and Manna 2007, Checking
    Safety by Inductive Generalization of Counterexamples to Induction, FMCAD; for elements that
    each matter by themselves it is adaptive group testing by binary splitting: Hwang 1972, A Method
    for Detecting All Defective Members in a Population by Group Testing, Journal of the American
    Statistical Association 67:605-608). For k needed elements of N: at most k (ceil(log2 N) + 1)
    questions, beside whether *kept* alone holds.

    ``again`` is asked where a needed element, not the first, stood last among many: this is rare,
    and what one false answer makes of all that follow. It is given what was taken to hold, and
    returns None, or the candidates to search instead. ``on_kept`` hears what is known to be needed
    so far.
    """
    found, rest = list(kept), list(candidates)
    while not holds(found):
        if not rest:
            raise ValueError("what was said to hold of everything does not")
        low, high = 0, len(rest)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(found + rest[:middle]) else (middle, high)
        doubtful = high == len(rest) > _FEW and len(found) > len(kept)
        if doubtful and again is not None and (instead := again(found + rest)) is not None:
            rest = [one for one in instead if one not in found]
            continue
        found.append(rest[high - 1])
        on_kept(found)
        rest = rest[: high - 1]
    return found


def smallest_hitting_set(sets: Iterable[frozenset[str]], below: int) -> frozenset[str] | None:
    """A smallest set that meets every given one, if it has fewer than *below* elements.

    None where there is none. Raises OverflowError where too many would have to be tried.
    """
    wanted = list(sets)
    union = sorted(frozenset().union(*wanted))
    if sum(comb(len(union), size) for size in range(below)) > _MOST_COMBINATIONS:
        raise OverflowError("too many combinations")
    for size in range(below):
        for chosen in combinations(union, size):
            if all(one.intersection(chosen) for one in wanted):
                return frozenset(chosen)
    return None
