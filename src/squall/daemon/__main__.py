"""Entry point: `python -m squall.daemon --state DIR`."""

from __future__ import annotations

import sys

from squall.daemon.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
