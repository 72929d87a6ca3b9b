"""Rule text taken apart, just far enough to be compared; the parser under test has no part in this."""

from __future__ import annotations

from dataclasses import dataclass, field

UNORDERED_CHAINS = frozenset(
    ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL")
)
"""Chains that hold lines of many Services, which kube-proxy writes in random order."""

MONITOR_CHAIN = "KUBE-PROXY-CANARY"
MONITOR_TABLE = "mangle"
LAST_RULE = "NOTE: this must be the last rule in this chain"

ChainName = tuple[str, str]
"""Table and chain."""


@dataclass
class ChainText:
    """One chain: its policy (``-`` for a user's chain) and the text of its rules."""

    policy: str
    rules: list[str] = field(default_factory=list)


def read_chains(text: str) -> dict[ChainName, ChainText]:
    """Return all chains in the order in which ``text`` declares them; counters are left out."""
    chains: dict[ChainName, ChainText] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy, _ = line[1:].split(" ")
            assert (table, name) not in chains, f"{name} is declared twice"
            chains[table, name] = ChainText(policy)
        elif line.startswith("-A "):
            name, _, arguments = line[3:].partition(" ")
            chains[table, name].rules.append(arguments)
        else:
            assert line == "COMMIT", line
    return chains


def comparable(chains: dict[ChainName, ChainText]) -> dict[ChainName, ChainText]:
    """Return what two proxies have to agree upon.

    What the proxy's own monitor needs is left out. In chains that hold lines of many Services, the lines are
    sorted; the jumps to the node ports have to stand at the end of theirs, in any order.
    """
    return {
        (table, name): ChainText(
            chain.policy, _settled(chain.rules) if name in UNORDERED_CHAINS else chain.rules
        )
        for (table, name), chain in chains.items()
        if name != MONITOR_CHAIN and table != MONITOR_TABLE
    }


def _settled(rules: list[str]) -> list[str]:
    last = [rule for rule in rules if LAST_RULE in rule]
    first = rules[: len(rules) - len(last)]
    assert not any(LAST_RULE in rule for rule in first), "a jump to the node ports does not stand last"
    return [*sorted(first), *sorted(last)]


def differences(ours: str, theirs: str) -> list[str]:
    """Return a description of each chain in which the two texts differ."""
    return chain_differences(read_chains(ours), read_chains(theirs))


def chain_differences(ours: dict[ChainName, ChainText], theirs: dict[ChainName, ChainText]) -> list[str]:
    """Return a description of each chain in which two sets of chains differ."""
    mine, other = comparable(ours), comparable(theirs)
    return [
        f"{table} {name}:\n  ours   {mine.get((table, name))}\n  theirs {other.get((table, name))}"
        for table, name in sorted(mine.keys() | other.keys())
        if mine.get((table, name)) != other.get((table, name))
    ]
