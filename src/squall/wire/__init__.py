"""The shared vocabulary: messages, values and framing. No I/O, and nothing but the standard library needed."""
