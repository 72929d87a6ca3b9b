"""The rules of an iptables-save text as conditions and targets: a reader of its own, for tests only."""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass, field

SCALE = 1 << 31


@dataclass(frozen=True)
class Condition:
    """One match: its kind, whether it is negated, and its values."""

    kind: str
    negated: bool
    values: tuple[object, ...]


@dataclass(frozen=True)
class ReadRule:
    """A rule: conditions in order of evaluation, what it does, and the words after that.

    ``destination`` repeats the condition on the address and its mask, which most rules fail by.
    """

    conditions: tuple[Condition, ...]
    target: str
    goto: bool
    arguments: tuple[str, ...]
    destination: tuple[int, int] | None


@dataclass
class ReadTable:
    """Chains by name, and the policies of the built-in ones."""

    chains: dict[str, list[ReadRule]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)


def read_tables(text: str) -> dict[str, ReadTable]:
    """Return the tables of an iptables-save text, by name."""
    tables: dict[str, ReadTable] = {}
    table = ReadTable()
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:], ReadTable())
        elif line.startswith(":"):
            name, policy, _ = line[1:].split(" ")
            table.chains[name] = []
            if policy != "-":
                table.policies[name] = policy
        elif line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            table.chains[chain].append(read_rule(words))
    return tables


def read_rule(words: list[str]) -> ReadRule:
    """Return the rule that the words of a line stand for."""
    conditions: list[Condition] = []
    target, goto, arguments = "", False, list[str]()
    recent: dict[str, str] = {}
    negated = False
    at = 0
    while at < len(words):
        word = words[at]
        value = words[at + 1] if at + 1 < len(words) else ""
        at += 2
        if word == "!":
            negated, at = True, at - 1
            continue
        if word in ("-j", "-g"):
            target, goto, arguments = value, word == "-g", words[at:]
            break
        if word in {"--mode", "--comment"}:
            pass
        elif word == "-m":
            if value == "recent":
                recent = {}
        elif word in ("--set", "--rcheck", "--update", "--reap", "--rsource"):
            at -= 1
            if word in ("--set", "--rcheck", "--update"):
                recent["operation"] = word[2:]
            if word == "--rsource":
                conditions.append(Condition("recent", False, (recent["operation"], recent["name"])))
        elif word in ("--seconds", "--mask"):
            pass
        elif word == "--name":
            recent["name"] = value
        else:
            conditions.append(Condition(KINDS[word], negated, VALUES[word](value)))
        negated = False
    networks = [c.values for c in conditions if c.kind == "destination" and not c.negated]
    destination = next(((int(str(base)), int(str(mask))) for base, mask in networks), None)
    return ReadRule(tuple(conditions), target, goto, tuple(arguments), destination)


def _network(text: str) -> tuple[object, ...]:
    network = ipaddress.ip_network(text)
    return int(network.network_address), int(network.netmask)


def _ports(text: str) -> tuple[object, ...]:
    first, _, last = text.partition(":")
    return int(first), int(last or first)


def _mark(text: str) -> tuple[object, ...]:
    value, _, mask = text.partition("/")
    return int(value, 16), int(mask or "0xffffffff", 16)


def _probability(text: str) -> tuple[object, ...]:
    return (round(float(text) * SCALE),)


def _words(text: str) -> tuple[object, ...]:
    return tuple(re.split(",", text))


def _single(text: str) -> tuple[object, ...]:
    return (text,)


KINDS = {
    "-s": "source",
    "-d": "destination",
    "-i": "interface",
    "-p": "protocol",
    "--dport": "port",
    "--dports": "port",
    "--ctstate": "state",
    "--mark": "mark",
    "--src-type": "source type",
    "--dst-type": "destination type",
    "--probability": "random",
    "--bytecode": "bpf",
    "--nfacct-name": "nfacct",
}
VALUES = {
    "-s": _network,
    "-d": _network,
    "-i": _single,
    "-p": _single,
    "--dport": _ports,
    "--dports": _ports,
    "--ctstate": _words,
    "--mark": _mark,
    "--src-type": _single,
    "--dst-type": _single,
    "--probability": _probability,
    "--bytecode": _single,
    "--nfacct-name": _single,
}
