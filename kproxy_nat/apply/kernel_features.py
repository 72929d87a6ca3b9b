"""What the kernel can do for Service rules, found out by trying.

Every probe loads real rules with a real tool into a network namespace of its own, which ends with the probe:
a kernel's configuration and its list of modules tell less than a rule that was taken. Neither the caller's
namespace nor any other is entered. Trying lets the kernel load the modules that are needed, as a rule would.
"""

from __future__ import annotations

import enum
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.apply.tools import IptablesTools, Variant, find_program, installed_variant
from kproxy_nat.net.addresses import IpFamily

NEEDS_ROOT = "needs root"
TIMEOUT = 60
"""Seconds; a probe takes some hundredths, and longer only where the kernel loads modules."""


class State(enum.StrEnum):
    """What became of a probe."""

    AVAILABLE = "available"
    MISSING = "missing"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that rules may need.

    Attributes:
        name: a stable name.
        purpose: what it is good for.
        modules: the kernel's modules that bring it.
        required: whether Services in general need it, in iptables mode.
    """

    name: str
    purpose: str
    modules: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A feature as seen through one tool.

    Attributes:
        tool: ``iptables-nft``, ``iptables-legacy``, ``nft``, ``pyroute2``, ``python-iptables`` or ``socket``.
        family: the family of the rules; ``None`` where both or none are concerned.
        message: the tool's own words when something is missing, or why nothing was checked.
    """

    feature: Feature
    tool: str
    family: IpFamily | None
    state: State
    message: str = ""


@dataclass(frozen=True, slots=True)
class _RuleProbe:
    """A feature that iptables has if it loads a rule. ``{address}`` stands for one of the family."""

    feature: Feature
    table: str
    rules: tuple[str, ...]


TABLES = Feature(
    "tables",
    "the tables filter and nat",
    "nf_tables and nft_compat, or iptable_nat and ip6table_nat",
    required=True,
)
NFACCT = Feature("nfacct", "kube-proxy's counters of dropped packets", "xt_nfacct")
NFT_MAPS = Feature("nft-maps", "verdict maps and sets with timeouts, for nftables mode", "nf_tables")
NFT_NUMGEN = Feature("nft-numgen", "a choice among endpoints, in nftables mode", "nft_numgen")
NFT_SLOTS = Feature("nft-slots", "a drawn number in a key, for nftables mode's compact layout", "nft_numgen")
NFT_FIB = Feature("nft-fib", "telling local addresses, in nftables mode", "nft_fib_ipv4 and nft_fib_ipv6")
CONNTRACK_NETLINK = Feature(
    "conntrack-netlink", "removing conntrack entries of endpoints that are gone", "nf_conntrack_netlink"
)
PYTHON_IPTABLES = Feature(
    "python-iptables", "the engine without programs, for the legacy variant", "iptable_nat and ip6table_nat"
)
SCTP_SOCKETS = Feature("sctp-sockets", "SCTP traffic from and to this machine", "sctp")

_RULE_PROBES = (
    _RuleProbe(
        TABLES,
        "nat",
        (
            "-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination {address}:80",
            "-A OUTPUT -p udp -m udp --dport 53 -j DNAT --to-destination {address}:53",
        ),
    ),
    _RuleProbe(TABLES, "filter", ("-A FORWARD -p tcp -m tcp --dport 80 -j DROP",)),
    _RuleProbe(
        Feature("comment", "rules that name their Service", "xt_comment", required=True),
        "nat",
        ('-A PREROUTING -m comment --comment "shop/web:http" -j RETURN',),
    ),
    _RuleProbe(
        Feature("conntrack", "telling new connections from established ones", "xt_conntrack", required=True),
        "filter",
        (
            "-A FORWARD -m conntrack --ctstate NEW -j RETURN",
            "-A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j RETURN",
        ),
    ),
    _RuleProbe(
        Feature("addrtype", "node ports: telling local addresses", "xt_addrtype", required=True),
        "nat",
        ("-A PREROUTING -m addrtype --dst-type LOCAL -j RETURN",),
    ),
    _RuleProbe(
        Feature("statistic", "a choice among several endpoints", "xt_statistic", required=True),
        "nat",
        ("-A PREROUTING -m statistic --mode random --probability 0.5 -j RETURN",),
    ),
    _RuleProbe(
        Feature("recent", "session affinity", "xt_recent", required=True),
        "nat",
        ("-A PREROUTING -m recent --name KPROXY-NAT --rcheck --seconds 10800 --reap -j RETURN",),
    ),
    _RuleProbe(
        Feature("mark", "marking traffic for masquerade", "xt_mark", required=True),
        "nat",
        ("-A OUTPUT -m mark ! --mark 0x4000/0x4000 -j RETURN", "-A OUTPUT -j MARK --xor-mark 0x4000"),
    ),
    _RuleProbe(
        Feature("masquerade-random-fully", "MASQUERADE --random-fully", "xt_MASQUERADE", required=True),
        "nat",
        ("-A POSTROUTING -j MASQUERADE --random-fully",),
    ),
    _RuleProbe(
        Feature(
            "reject",
            "refusing connections to Services without endpoints",
            "ipt_REJECT and ip6t_REJECT",
            required=True,
        ),
        "filter",
        ("-A FORWARD -j REJECT",),
    ),
    _RuleProbe(
        Feature("sctp", "Services with protocol SCTP", "xt_sctp"),
        "nat",
        ("-A PREROUTING -p sctp -m sctp --dport 80 -j DNAT --to-destination {address}:80",),
    ),
    _RuleProbe(
        Feature("multiport", "ports in the compact layout", "xt_multiport"),
        "nat",
        ("-A PREROUTING -p tcp -m multiport --dports 80 -j RETURN",),
    ),
    _RuleProbe(
        Feature("bpf", "hairpins in the compact layout; without it, --hairpin addresses", "xt_bpf"),
        "filter",
        ('-A FORWARD -m bpf --bytecode "1,6 0 0 1" -j RETURN',),
    ),
)

_ADDRESS = {IpFamily.IPV4: "10.180.0.1", IpFamily.IPV6: "[fd00:180::1]"}

_NFT_PROBES = (
    (
        NFT_MAPS,
        "  set affinity { type %(type)s; flags dynamic,timeout; timeout 10800s; }\n"
        "  map service-ips { type %(type)s . inet_proto . inet_service : verdict; }\n"
        "  chain probe { type nat hook prerouting priority -100;\n"
        "    update @affinity { %(name)s saddr }\n"
        "    %(name)s daddr . meta l4proto . th dport vmap @service-ips\n  }\n",
    ),
    (
        NFT_NUMGEN,
        "  chain probe { type nat hook prerouting priority -100;\n"
        "    meta l4proto tcp dnat %(name)s to numgen random mod 2 map "
        "{ 0 : %(address)s . 80, 1 : %(address)s . 81 }\n  }\n",
    ),
    (
        NFT_SLOTS,
        "  map slots { typeof %(name)s daddr . tcp dport . numgen random mod 2 : "
        "%(name)s daddr . tcp dport; }\n"
        "  chain probe { type nat hook prerouting priority -100;\n"
        "    dnat %(name)s to %(name)s daddr . tcp dport . numgen random mod 2 map @slots\n  }\n",
    ),
    (
        NFT_FIB,
        "  chain probe { type filter hook prerouting priority -110;\n    fib daddr type local accept\n  }\n",
    ),
)
_NFT_FAMILIES = (
    {"name": "ip", "type": "ipv4_addr", "address": "10.180.0.1"},
    {"name": "ip6", "type": "ipv6_addr", "address": "fd00:180::1"},
)

_CONNTRACK_SCRIPT = """
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket
with NFCTSocket() as conntrack:
    list(conntrack.dump())
"""
_PYTHON_IPTABLES_SCRIPT = """
import iptc
[chain.name for chain in iptc.Table(iptc.Table.NAT).chains]
"""
_SCTP_SCRIPT = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)"
_NFACCT_SCRIPT = '"$1" add kproxy-nat && exec "$2" -w 5'
_PYTHON_PROBES = (
    (CONNTRACK_NETLINK, "pyroute2", _CONNTRACK_SCRIPT),
    (PYTHON_IPTABLES, "python-iptables", _PYTHON_IPTABLES_SCRIPT),
    (SCTP_SOCKETS, "socket", _SCTP_SCRIPT),
)

_Result = tuple[State, str]
_AVAILABLE: _Result = (State.AVAILABLE, "")


def probe_kernel() -> tuple[Finding, ...]:
    """Return what the kernel can do, as seen through each tool that is installed.

    It takes about a second, and raises nothing: without privilege everything is ``NOT_CHECKED``.
    """
    with tempfile.TemporaryDirectory(prefix="kproxy-nat-") as directory:
        # The lock of the tools is the machine's; rules that nobody shares must not wait for it.
        laboratory = _Laboratory({**os.environ, "XTABLES_LOCKFILE": str(Path(directory, "lock"))})
        return tuple(laboratory.findings())


@dataclass(frozen=True, slots=True)
class _Laboratory:
    """Runs programs in namespaces of their own."""

    environment: Mapping[str, str]

    def findings(self) -> Iterator[Finding]:
        """Yield the results of all probes."""
        obstacle = self._obstacle()
        for variant in Variant:
            yield from self._variant(variant, obstacle)
        for feature, script in _NFT_PROBES:
            yield Finding(feature, "nft", None, *(obstacle or self._nft(script)))
        for feature, tool, script in _PYTHON_PROBES:
            result = obstacle or self._run([sys.executable, "-P", "-c", script])
            yield Finding(feature, tool, None, *result)

    def _obstacle(self) -> _Result | None:
        """Return why nothing can be checked here, if so."""
        if find_program("unshare") is None:
            return State.NOT_CHECKED, "the program unshare is not there; install package util-linux"
        state, message = self._run(["true"])
        if state is State.AVAILABLE:
            return None
        return State.NOT_CHECKED, NEEDS_ROOT if "not permitted" in message else message

    def _variant(self, variant: Variant, obstacle: _Result | None) -> Iterator[Finding]:
        tool = f"iptables-{variant}"
        tools = installed_variant(variant)
        if tools is None:
            return
        for family in IpFamily:
            if obstacle is None:
                yield from self._family(tools, family)
            else:
                features = dict.fromkeys(probe.feature for probe in _RULE_PROBES)
                yield from (Finding(feature, tool, family, *obstacle) for feature in (*features, NFACCT))

    def _family(self, tools: IptablesTools, family: IpFamily) -> Iterator[Finding]:
        """Try all rules at once, and one feature after the other only if that fails."""
        tool = f"iptables-{tools.variant}"
        everything = self.load(tools, family, _RULE_PROBES)
        for feature in dict.fromkeys(probe.feature for probe in _RULE_PROBES):
            probes = [probe for probe in _RULE_PROBES if probe.feature is feature]
            alone = everything if everything == _AVAILABLE else self.load(tools, family, probes)
            yield Finding(feature, tool, family, *alone)
        yield Finding(NFACCT, tool, family, *self._nfacct(tools, family))

    def load(self, tools: IptablesTools, family: IpFamily, probes: Iterable[_RuleProbe]) -> _Result:
        """Try the rules of some probes."""
        return self._run([str(tools.restore[family]), "-w", "5"], _restore_text(probes, family))

    def _nfacct(self, tools: IptablesTools, family: IpFamily) -> _Result:
        """Try a rule that counts with an accounting object."""
        program = find_program("nfacct")
        if program is None:
            return State.MISSING, "nfacct is not there"
        rule = _RuleProbe(NFACCT, "filter", ("-A FORWARD -m nfacct --nfacct-name kproxy-nat",))
        argv = ["sh", "-c", _NFACCT_SCRIPT, "sh", str(program), str(tools.restore[family])]
        return self._run(argv, _restore_text([rule], family))

    def _nft(self, script: str) -> _Result:
        program = find_program("nft")
        if program is None:
            return State.MISSING, "nft is not there"
        tables = (f"table {names['name']} kproxy-nat {{\n{script % names}}}\n" for names in _NFT_FAMILIES)
        return self._run([str(program), "-f", "-"], "".join(tables))

    def _run(self, argv: Sequence[str], stdin: str = "") -> _Result:
        """Run a program in a namespace of its own."""
        try:
            done = subprocess.run(
                [find_program("unshare") or "unshare", "--net", "--", *argv],
                input=stdin,
                capture_output=True,
                check=False,
                encoding="utf-8",
                errors="replace",
                env=self.environment,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return State.MISSING, f"no answer within {TIMEOUT} s"
        return _AVAILABLE if done.returncode == 0 else (State.MISSING, _said(done))


def _restore_text(probes: Iterable[_RuleProbe], family: IpFamily) -> str:
    """Return the rules of some probes as a text for iptables-restore."""
    tables: dict[str, list[str]] = {}
    for probe in probes:
        rules = (rule.format(address=_ADDRESS[family]) for rule in probe.rules)
        tables.setdefault(probe.table, []).extend(rules)
    return "".join(f"*{table}\n{chr(10).join(rules)}\nCOMMIT\n" for table, rules in tables.items())


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a tool complained of, in one line; of a traceback, its end."""
    if done.returncode < 0:
        return f"it crashed ({signal.Signals(-done.returncode).name})"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if lines and lines[0].startswith("Traceback"):
        lines = lines[-1:]
    telling = [line for line in lines if not line.startswith(("Try `", "Error occurred at line"))]
    return "; ".join(telling) or f"it failed with status {done.returncode}"
