"""The shared vocabulary: messages, values and framing. No I/O; the standard library is enough."""
