"""Garbage collection of everything that relforge keeps: what must stay (``roots``), what there is
(``items``, ``caches``), what goes (``deciding``), and how it goes (``discarding``, ``git``,
``engine``). ``docs/runs.md`` has the rules in a table.

The order of going is by last use, and whatever mentions a thing was used no later than that thing.
So wherever the collector stops, or is killed, nothing that stayed mentions anything that went.
"""
