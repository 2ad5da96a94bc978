"""An interpreter of classic BPF as seccomp uses it: what a filter says about one system call."""

from __future__ import annotations

import struct

LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
MAX_INSTRUCTIONS = 4096


def verdict(program: bytes, arch: int, number: int, *args: int) -> int:
    """Run `program` as the kernel would. It fails on what the kernel's checker refuses."""
    code = list(struct.iter_unpack("<HBBI", program))
    assert 0 < len(code) <= MAX_INSTRUCTIONS
    assert code[-1][0] == RETURN
    data = struct.pack("<IIQ6Q", number & 0xFFFF_FFFF, arch, 0, *(*args, *[0] * (6 - len(args))))
    accumulator = 0
    at = 0
    while True:
        op, if_true, if_false, value = code[at]
        at += 1
        if op == RETURN:
            return int(value)
        if op == LOAD:
            assert value % 4 == 0
            (accumulator,) = struct.unpack_from("<I", data, value)
            continue
        at += if_true if _holds(op, accumulator, value) else if_false
        assert at < len(code)


def _holds(op: int, accumulator: int, value: int) -> bool:
    match op:
        case 0x15:
            return accumulator == value
        case 0x25:
            return accumulator > value
        case 0x35:
            return accumulator >= value
        case 0x45:
            return bool(accumulator & value)
    raise AssertionError(f"unknown instruction {op:#x}")
