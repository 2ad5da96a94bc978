"""`python /opt/squall/squall/runner`: puts Squall's own folder where it hides nobody's modules, then runs."""

from __future__ import annotations

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))

# Python puts this very folder first (`python <folder>`), or the working directory (`python -m`).
if __name__ == "__main__":
    if sys.path and os.path.abspath(sys.path[0] or ".") in {_HERE, os.getcwd()}:
        del sys.path[0]
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)
    from squall.runner.main import main

    sys.exit(main())
