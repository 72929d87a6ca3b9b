"""Rule texts of the real tools (iptables 1.8.9), and their readers.

``restore-forms.tsv``: a rule as people write it, what the kernel lists for it (several rules:
`` ;; `` between them), the family, the table. ``invalid.tsv``: a text that iptables-restore
refuses (``\\n`` and the like are escapes), what is wrong with it, the line. ``dumps/``: the output
of iptables-save; ``*6.rules`` are IPv6, ``*.legacy.rules`` come from the legacy variant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kproxy_nat.formats.iptables_modules import ACTION_READERS, OTHER_TARGETS
from kproxy_nat.formats.iptables_quoting import split_words
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import BUILTIN_CHAINS

HERE = Path(__file__).parent
IDENTITY = HERE.parent.parent / "rules"
IDENTITY_FILES = {IpFamily.IPV4: "identity.rules", IpFamily.IPV6: "identity6.rules"}

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|(.))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


class IdentityBlock(NamedTuple):
    """The canonical rules of one topic."""

    family: IpFamily
    table: str
    topic: str
    lines: tuple[str, ...]


class Form(NamedTuple):
    """A rule as written, and the rules that the kernel lists for it."""

    written: str
    listed: tuple[str, ...]
    family: IpFamily
    table: str


class Fault(NamedTuple):
    """A text that iptables-restore refuses, and the line that it names."""

    text: str
    name: str
    line: int


def read(path: Path) -> str:
    """Return the text of a file as it is: a dump may hold any bytes."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def without_comments(text: str) -> str:
    """Return a dump without its ``#`` lines."""
    return re.sub(r"(?m)^#.*\n", "", text)


def dumps() -> list[Path]:
    """Return all dumps."""
    return sorted((HERE / "dumps").glob("*.rules"))


def family_of_dump(path: Path) -> IpFamily:
    """Return the family, which the name of the file tells."""
    return IpFamily.IPV6 if path.name.partition(".")[0].endswith("6") else IpFamily.IPV4


def forms() -> list[Form]:
    """Return the rows of ``restore-forms.tsv``."""
    found = []
    for row in _rows("restore-forms.tsv"):
        written, listed, family, table = row
        found.append(
            Form(
                written, tuple(listed.split(" ;; ")), IpFamily.IPV4 if family == "4" else IpFamily.IPV6, table
            )
        )
    return found


def invalid() -> list[Fault]:
    """Return the rows of ``invalid.tsv``."""
    return [
        Fault(_ESCAPE.sub(_unescaped, text), name, int(line)) for text, name, line in _rows("invalid.tsv")
    ]


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return bytes([int(match[1], 16)]).decode("utf-8", "surrogateescape")
    return _ESCAPED[match[2]]


def _rows(name: str) -> list[list[str]]:
    return [line.split("\t") for line in read(HERE / name).split("\n") if line]


def identity_blocks(family: IpFamily) -> Iterator[IdentityBlock]:
    """Yield the topics of the identity file of ``family``."""
    table, topic, lines = "", "", list[str]()
    for line in [*read(IDENTITY / IDENTITY_FILES[family]).split("\n"), "# the end"]:
        if not line.startswith(("#", "*")):
            lines += [line] if line else []
            continue
        if lines:
            yield IdentityBlock(family, table, topic, tuple(lines))
            lines = []
        if line.startswith("*"):
            table = line[1:]
        else:
            topic = line[2:]


def identity_dump(family: IpFamily, table: str) -> str:
    """Return all canonical rules of a table as one dump, its chains in the order of listing."""
    lines = [line for block in identity_blocks(family) if block.table == table for line in block.lines]
    by_chain: dict[str, list[str]] = {chain: [] for chain in BUILTIN_CHAINS[table]}
    for line in lines:
        by_chain.setdefault(split_words(line)[1].value, []).append(line)
    mentioned = {target for line in lines for target in jump_targets(line)} | by_chain.keys()
    chains = [*BUILTIN_CHAINS[table], *sorted(mentioned - set(BUILTIN_CHAINS[table]))]
    declared = [f":{name} {'ACCEPT' if name in BUILTIN_CHAINS[table] else '-'} [0:0]" for name in chains]
    rules = [line for name in chains for line in by_chain.get(name, ())]
    return "\n".join([f"*{table}", *declared, *rules, "COMMIT", ""])


def jump_targets(line: str) -> list[str]:
    """Return the user chains that a rule's line leads to."""
    words = [word.value for word in split_words(line)]
    targets = [
        words[at + 1]
        for at, word in enumerate(words[:-1])
        if word in ("-j", "-g") and words[at - 1] not in ("--comment", "--log-prefix", "--nflog-prefix")
    ]
    return [name for name in targets if name not in ACTION_READERS and name not in OTHER_TARGETS]
