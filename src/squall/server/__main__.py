"""`python -m squall.server`."""

from __future__ import annotations

import sys

from squall.server.main import main

if __name__ == "__main__":
    sys.exit(main())
