"""Calls, maps and payloads: Squall with full isolation beside Ray, in interleaved rounds.

`python -m benchmarks.calls --json out.json`
"""
