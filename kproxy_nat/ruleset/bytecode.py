"""Programs of classic BPF, in the form that iptables' match ``bpf`` takes.

The program sees a packet from its IP header on. An instruction is its code, the jumps where its condition
holds and does not hold, and an operand (linux/bpf_common.h).
"""

from __future__ import annotations

from kproxy_nat.net.addresses import IpFamily

_LOAD_WORD = 0x20
_INDEX_FROM_LOADED = 0x07
_JUMP_IF_EQUAL_INDEX = 0x1D
_RETURN = 0x06
_WORD = 4
_TRUE = 0xFFFF

_ADDRESSES = {IpFamily.IPV4: (12, 16), IpFamily.IPV6: (8, 24)}
"""Where the source address and the destination address begin in the header."""


def _same_addresses(family: IpFamily) -> str:
    source, destination = _ADDRESSES[family]
    words = family.bits // 8 // _WORD
    instructions: list[tuple[int, int, int, int]] = []
    for word in range(words):
        to_the_end = 4 * (words - word - 1) + 1
        instructions += [
            (_LOAD_WORD, 0, 0, source + _WORD * word),
            (_INDEX_FROM_LOADED, 0, 0, 0),
            (_LOAD_WORD, 0, 0, destination + _WORD * word),
            (_JUMP_IF_EQUAL_INDEX, 0, to_the_end, 0),
        ]
    instructions += [(_RETURN, 0, 0, _TRUE), (_RETURN, 0, 0, 0)]
    texts = (" ".join(map(str, instruction)) for instruction in instructions)
    return ",".join((str(len(instructions)), *texts))


SAME_ADDRESSES = {family: _same_addresses(family) for family in IpFamily}
"""The programs that tell packets whose source and destination are one address."""
