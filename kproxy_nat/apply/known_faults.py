"""Versions of kernel and tools with known faults that concern Service rules.

A version says what upstream released; a distribution may have repaired it under the same number. So a fault
is a reason to look, never one to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kproxy_nat.apply.tools import Version, version_text

IPTABLES_NFT = "iptables-nft"
IPTABLES_LEGACY = "iptables-legacy"
NFT = "nft"
KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions from ``since`` up to, but without, ``before``; empty where there is no bound."""

    since: Version = ()
    before: Version = ()
    without: frozenset[Version] = frozenset()

    def __contains__(self, version: Version) -> bool:
        return (
            version >= self.since
            and (not self.before or version < self.before)
            and version not in self.without
        )

    @classmethod
    def only(cls, version: Version) -> VersionRange:
        """Return the range of one version."""
        return cls(version, (*version, 0))

    def __str__(self) -> str:
        if self.before == (*self.since, 0):
            return version_text(self.since)
        bounds = [f"since {version_text(self.since)}"] if self.since else []
        bounds += [f"before {version_text(self.before)}"] if self.before else []
        bounds += [f"except {version_text(version)}" for version in sorted(self.without)]
        return ", ".join(bounds)


@dataclass(frozen=True, slots=True)
class KnownFault:
    """A fault of some versions of a tool.

    Attributes:
        id: a stable name of the fault.
        tool: one of the constants of this module.
        affected: the versions known to have it. Where it was seen with one version and no other was tried,
            the range holds that one.
        effect: what happens, in one sentence.
        remedy: what to do about it.
        reference: where it was reported, or how it was found.
    """

    id: str
    tool: str
    affected: VersionRange
    effect: str
    remedy: str
    reference: str


KNOWN_FAULTS = (
    KnownFault(
        "iptables-no-random-fully",
        IPTABLES_LEGACY,
        VersionRange(before=(1, 6, 2)),
        "it does not know MASQUERADE --random-fully, so connections from one address may collide at port "
        "selection and be dropped",
        "update iptables to 1.6.2 or later",
        "https://github.com/kubernetes/kubernetes/pull/78547",
    ),
    KnownFault(
        "iptables-nft-check-fails",
        IPTABLES_NFT,
        VersionRange((1, 8), (1, 8, 3)),
        "iptables -C does not find rules that are there, so programs that look first (the kubelet) add them "
        "again and again",
        "update iptables to 1.8.3 or later, or use the legacy variant",
        "https://github.com/kubernetes/kubernetes/issues/82361",
    ),
    KnownFault(
        "iptables-nft-loses-mark",
        IPTABLES_NFT,
        VersionRange((1, 8), (1, 8, 8)),
        "it reads rules that 1.8.8 or later wrote without their mark match; a program that writes back what "
        "it read turns 'drop marked packets' into 'drop all packets'",
        "use the same version of iptables on the host and in containers that write rules of the host",
        "https://github.com/kubernetes/kubernetes/issues/112477",
    ),
    KnownFault(
        "iptables-nft-restore-replace-crash",
        IPTABLES_NFT,
        VersionRange.only((1, 8, 9)),
        "iptables-nft-restore crashes on -R of a rule that was added or replaced earlier in the same "
        "transaction; nothing is changed",
        "write the chain anew instead of replacing the rule; kproxy-nat never does that",
        "seen with 1.8.9, kernel 6.18; other versions were not tried",
    ),
    KnownFault(
        "iptables-nft-restore-rename",
        IPTABLES_NFT,
        VersionRange.only((1, 8, 9)),
        "iptables-nft-restore refuses rules for a chain that -E renamed earlier in the same transaction "
        "('No chain/target/match by that name'); nothing is changed",
        "commit between the two; kproxy-nat never does that",
        "seen with 1.8.9, kernel 6.18; other versions were not tried",
    ),
    KnownFault(
        "iptables-nft-restore-zero",
        IPTABLES_NFT,
        VersionRange.only((1, 8, 9)),
        "iptables-nft-restore fails on -Z of a chain that the same transaction flushed, if its rules had "
        "counted packets ('RULE_REPLACE failed (No such file or directory)'); nothing is changed",
        "give the new rules their counters instead, with --counters, as kproxy-nat does",
        "seen with 1.8.9, kernel 6.18; other versions were not tried",
    ),
    KnownFault(
        "nft-reads-whole-ruleset",
        NFT,
        VersionRange(before=(1, 0, 1)),
        "every nft -f reads all tables first, and may crash on what a newer nft wrote into another one; "
        "kube-proxy's nftables mode wants 1.0.1",
        "update nftables to 1.0.1 or later",
        "https://github.com/kubernetes/kubernetes/pull/124152",
    ),
    KnownFault(
        "nft-crashes-on-newer-sets",
        NFT,
        VersionRange(before=(1, 1, 2), without=frozenset({(1, 0, 6, 1)})),
        "nft crashes when it lists sets that nft 1.1.2 or later, or 1.0.6.1, wrote into the same namespace",
        "use the same version of nft on the host and in containers, 1.0.6.1 or 1.1.2 and later",
        "https://github.com/kubernetes/kubernetes/issues/136786",
    ),
    KnownFault(
        "nft-list-jhash-crash",
        NFT,
        VersionRange.only((1, 0, 6)),
        "nft list crashes once any table has a map with jhash in its typeof key, though it loads such a map; "
        "nft -j lists it",
        "use numgen in the key, or jhash in the rule only; update nftables",
        "seen with 1.0.6, kernel 6.18; other versions were not tried",
    ),
    KnownFault(
        "nft-json-table-flags",
        NFT,
        VersionRange.only((1, 0, 6)),
        "nft -j prints anything for the flags of a table that is dormant or has an owner (as "
        "kube-proxy-standby has, while apply changes the layout), or ends there: its output is no JSON",
        "wake the table (nft add table FAMILY NAME), or list again; update nftables",
        "seen with 1.0.6, kernel 6.18; other versions were not tried",
    ),
    KnownFault(
        "kernel-too-old-for-nftables-mode",
        KERNEL,
        VersionRange(before=(5, 13)),
        "kube-proxy's nftables mode does not start, since the nft that such systems bring is likely to crash "
        "on its tables",
        "use iptables mode, or update the kernel to 5.13 or later",
        "https://github.com/kubernetes/kubernetes/pull/124152",
    ),
)


def known_faults(versions: Mapping[str, Version]) -> tuple[KnownFault, ...]:
    """Return the faults of these versions, named by tool; a version that is unknown (empty) has none."""
    return tuple(fault for fault in KNOWN_FAULTS if _concerns(fault, versions))


def _concerns(fault: KnownFault, versions: Mapping[str, Version]) -> bool:
    version = versions.get(fault.tool, ())
    return bool(version) and version in fault.affected
