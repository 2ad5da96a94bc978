"""`python -m squall.node`."""

from __future__ import annotations

import sys

from squall.node.main import main

if __name__ == "__main__":
    sys.exit(main())
