"""Sets the times of everything below the named folders to SOURCE_DATE_EPOCH.

The same files then give the same layer, whenever they were written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    for name in sys.argv[1:]:
        top = Path(name)
        for path in (*top.rglob("*"), top):
            os.utime(path, (epoch, epoch), follow_symlinks=False)


if __name__ == "__main__":
    main()
