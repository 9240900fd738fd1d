"""The smallest set of operators to disable, so that a failing verdict passes.

``search`` finds it and knows nothing of servers or devices: it asks for verdicts on sets of
operators. Who answers is ``served`` (the image of a release, started with other operators each
time) or ``bare`` (a small decoder on this machine's GPU, with torch and FlagGems alone). Everything
but ``evidence``, ``settings`` and ``served`` needs Python 3.10 and nothing else.
"""
