"""A direct line: a caller and a runner talk over a socket pair, with no server and no agent between them.

The caller sends INPUT frames (`protocol`): the number of the call on this line, counted from 1, no header,
and the pickle of (args, kwargs), at most INLINE bytes. The runner answers with an OUTPUT frame of the same
number if the result fits in one, nothing was printed, and the call was quick. Else, and whenever it has other
things to do, it closes the line, and the outcome of the line's input is that of its last call; its `yields`
says how many calls were begun.
"""

from __future__ import annotations

import struct

#: What a runner notes where its agent reads it: calls begun, since when one runs (CLOCK_MONOTONIC seconds; 0:
#: none does), and the seconds of those that have ended.
PAGE = struct.Struct("<Qdd")
#: A runner closes a line on which nothing was said for so many seconds.
IDLE = 1.0
#: A call that took more seconds ends its line: the function is not one for it.
QUICK = 0.1
