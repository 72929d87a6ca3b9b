"""Text of nft taken apart, just far enough to be compared; the parser under test has no part in this."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

OF_A_SERVICE = "/"
"""Names of what belongs to a Service hold a slash; kube-proxy writes Services in random order."""


@dataclass
class ObjectText:
    """A chain, set or map: what declares it, the rules in order, the elements in any order."""

    declaration: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)


@dataclass
class NftText:
    """The objects of a text by family, kind and name, and the lines that concern no Service, in order."""

    objects: dict[tuple[str, str, str], ObjectText] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)

    def object(self, family: str, kind: str, name: str) -> ObjectText:
        """Return an object, made anew when it is first named."""
        return self.objects.setdefault((family, kind, name), ObjectText())

    def settled(self) -> NftText:
        """Sort the elements."""
        for item in self.objects.values():
            item.elements.sort()
        return self


def read_transaction(text: str) -> NftText:
    """Take a script of one command a line apart."""
    found = NftText()
    for line in text.splitlines():
        _, kind, family, table, *rest = line.split(" ", 5)
        assert table == "kube-proxy"
        name, arguments = (*rest, "", "")[:2]
        if kind == "element":
            found.object(family, "container", name).elements.append(arguments)
        elif kind == "rule":
            found.object(family, "chain", name).rules.append(arguments)
        else:
            kind = "chain" if kind == "chain" else "container"
            found.object(family, kind, name).declaration.append(line)
        if OF_A_SERVICE not in line.partition("comment")[0] and kind != "element":
            found.fixed.append(line)
    return found.settled()


def read_listing(text: str) -> NftText:
    """Take a listing of ``nft list ruleset`` apart."""
    found = NftText()
    for family, table in re.findall(
        r"^table (\S+) kube-proxy \{\n(.*?)^\}\n", text, re.MULTILINE | re.DOTALL
    ):
        comment, _, blocks = table.partition("\n")
        found.fixed.append(f"{family} {comment}")
        for kind, name, body in re.findall(r"^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}\n", blocks, re.M | re.S):
            item = found.object(family, kind, name)
            elements = re.search(r"^\t\telements = \{ (.*) \}\n", body, re.M | re.S)
            if elements:
                item.elements = re.split(r",\s+", elements.group(1))
            item.rules = re.sub(r"^\t\telements = .*? \}\n", "", body, flags=re.M | re.S).splitlines()
            if OF_A_SERVICE not in name:
                found.fixed.append(f"{family} {kind} {name}")
    return found.settled()


def nft_differences(ours: NftText, theirs: NftText) -> list[str]:
    """Return a description of each object in which the two texts differ, and of the fixed lines."""
    found = [
        f"{key}:\n  ours   {ours.objects.get(key)}\n  theirs {theirs.objects.get(key)}"
        for key in sorted(ours.objects.keys() | theirs.objects.keys())
        if ours.objects.get(key) != theirs.objects.get(key)
    ]
    if ours.fixed != theirs.fixed:
        found.append(f"fixed lines:\n  ours   {ours.fixed}\n  theirs {theirs.fixed}")
    return found
