"""A machine for the few instructions of classic BPF that address comparisons need (linux/bpf_common.h)."""

from __future__ import annotations

LOAD_WORD, TAX, JUMP_EQUAL_X, RETURN = 0x20, 0x07, 0x1D, 0x06


def run(program: str, packet: bytes) -> int:
    """Return what a program in iptables' notation returns for a packet, which begins with its IP header."""
    count, *texts = program.split(",")
    instructions = [tuple(map(int, text.split())) for text in texts]
    assert len(instructions) == int(count)
    accumulator = index = at = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        if code == LOAD_WORD:
            if operand + 4 > len(packet):
                return 0
            accumulator = int.from_bytes(packet[operand : operand + 4], "big")
        elif code == TAX:
            index = accumulator
        elif code == JUMP_EQUAL_X:
            at += if_true if accumulator == index else if_false
        elif code == RETURN:
            return operand
        else:
            raise ValueError(f"instruction {code}")
