"""Arguments of iptables as matches and actions: the inverse of ``iptables_words``.

Each reader takes the options of one module and returns its value, or ``None`` when they go beyond what the
value can say; the module is then kept word for word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from kproxy_nat.formats.iptables_headers import read_number
from kproxy_nat.formats.iptables_words import DEFAULT_REPLY
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.matches import AnyMatch, Ports
from kproxy_nat.ruleset.probability import threshold_of_text


class Option(NamedTuple):
    """One option with its values; ``negated`` by a ``!`` before it."""

    name: str
    negated: bool
    values: tuple[str, ...]


Options = Sequence[Option]
MatchReader = Callable[[Options, IpFamily], AnyMatch | None]
ActionReader = Callable[[Options, IpFamily], actions.AnyAction | None]

TRANSPORTS = ("tcp", "udp", "udplite", "sctp", "dccp")
_PORT_OPTIONS = {
    "--sport": "source",
    "--source-port": "source",
    "--dport": "destination",
    "--destination-port": "destination",
}
_MULTIPORT_OPTIONS = {
    "--dports": "dports",
    "--destination-ports": "dports",
    "--sports": "sports",
    "--source-ports": "sports",
    "--ports": "ports",
}
TRANSPORT_OPTIONS = frozenset(
    (*_PORT_OPTIONS, "--tcp-flags", "--syn", "--tcp-option", "--icmp-type", "--icmpv6-type", "--chunk-types")
)
"""Options that load the module of the rule's protocol where no ``-m`` has."""

_CT_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
_ADDRESS_TYPES = (
    *"UNSPEC UNICAST LOCAL BROADCAST ANYCAST MULTICAST".split(),
    *"BLACKHOLE UNREACHABLE PROHIBIT THROW NAT XRESOLVE".split(),
)
_PORT = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_ALL_PORTS = Ports(0, 65535)
_SOCKET_FAMILY = {IpFamily.IPV4: AF_INET, IpFamily.IPV6: AF_INET6}
_REPLY_NAMES = {
    IpFamily.IPV4: {
        "net-unreach": "icmp-net-unreachable",
        "host-unreach": "icmp-host-unreachable",
        "proto-unreach": "icmp-proto-unreachable",
        "port-unreach": "icmp-port-unreachable",
        "net-prohib": "icmp-net-prohibited",
        "host-prohib": "icmp-host-prohibited",
        "admin-prohib": "icmp-admin-prohibited",
        "tcp-rst": "tcp-reset",
    },
    IpFamily.IPV6: {
        "no-route": "icmp6-no-route",
        "adm-prohibited": "icmp6-adm-prohibited",
        "addr-unreach": "icmp6-addr-unreachable",
        "port-unreach": "icmp6-port-unreachable",
    },
}
_PROGRAM = re.compile(r"\d+(?:,\d+ \d+ \d+ \d+)+", re.ASCII)
_FULL_MASK = {IpFamily.IPV4: "255.255.255.255", IpFamily.IPV6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}


def _single(options: Options, name: str) -> Option | None:
    """Return the only option, if it is ``name`` with one value; a target's options are never negated."""
    if len(options) == 1 and options[0].name == name and len(options[0].values) == 1:
        return options[0]
    return None


def _comment(options: Options, _: IpFamily) -> AnyMatch | None:
    option = _single(options, "--comment")
    return matches.Comment(option.values[0]) if option and not option.negated else None


def _transport(protocol: str) -> MatchReader:
    def read(options: Options, _: IpFamily) -> AnyMatch | None:
        found: dict[str, Ports] = {}
        for option in options:
            side = _PORT_OPTIONS.get(option.name)
            ports = _ports(option) if side else None
            if side is None or ports is None or side in found:
                return None
            found[side] = ports
        if protocol in ("tcp", "udp"):  # which keep no range of all ports; the others do
            found = {side: ports for side, ports in found.items() if ports != _ALL_PORTS}
        return matches.Transport(protocol, found.get("source"), found.get("destination"))

    return read


def _ports(option: Option) -> Ports | None:
    if len(option.values) != 1:
        return None
    low, colon, high = option.values[0].partition(":")
    if colon:
        low, high = low or "0", high or "65535"
    else:
        high = low
    first, last = read_number(low), read_number(high)
    if first is None or last is None or not first <= last <= 65535:
        return None
    return Ports(first, last, option.negated)


def _multiport(options: Options, _: IpFamily) -> AnyMatch | None:
    for name, side in _MULTIPORT_OPTIONS.items():
        option = _single(options, name)
        ranges = _port_list(option.values[0]) if option else None
        if option and ranges:
            return matches.Multiport(ranges, side, option.negated)
    return None


def _port_list(text: str) -> tuple[Ports, ...] | None:
    """Return single ports and ranges; the tool tells ``80:80`` from ``80``, and so it has no value here."""
    ranges: list[Ports] = []
    for word in text.split(","):
        low, colon, high = word.partition(":")
        first, last = read_number(low), read_number(high if colon else low)
        if first is None or last is None or last > _ALL_PORTS.last or (first >= last if colon else False):
            return None
        ranges.append(Ports(first, last))
    return tuple(ranges)


def _states(module: str, option_name: str) -> MatchReader:
    def read(options: Options, _: IpFamily) -> AnyMatch | None:
        option = _single(options, option_name)
        states = _listed(option, _CT_STATES) if option else None
        return matches.CtState(states, option.negated, module) if option and states else None

    return read


def _listed(option: Option, known: Iterable[str]) -> tuple[str, ...] | None:
    """Return the values of a comma-separated list in the order of ``known``."""
    given = option.values[0].upper().split(",")
    listed = tuple(value for value in known if value in given)
    return listed if set(listed) == set(given) else None


def _mark(options: Options, _: IpFamily) -> AnyMatch | None:
    option = _single(options, "--mark")
    pair = _value_and_mask(option.values[0]) if option else None
    return matches.Mark(*pair, option.negated) if option and pair else None


def _value_and_mask(text: str) -> tuple[int, int] | None:
    value, slash, mask = text.partition("/")
    numbers = [read_number(value), read_number(mask) if slash else matches.FULL_MARK]
    if any(number is None or number > matches.FULL_MARK for number in numbers):
        return None
    return numbers[0] or 0, numbers[1] or 0


def _addr_type(options: Options, _: IpFamily) -> AnyMatch | None:
    for side in ("src", "dst"):
        option = _single(options, f"--{side}-type")
        types = _listed(option, _ADDRESS_TYPES) if option else None
        if option and types:
            return matches.AddrType(side, types, option.negated)
    return None


def _statistic(options: Options, _: IpFamily) -> AnyMatch | None:
    by_name = {option.name: option for option in options}
    mode, probability = by_name.get("--mode"), by_name.get("--probability")
    if len(options) != 2 or not mode or not probability or mode.values != ("random",) or mode.negated:
        return None
    try:
        return matches.Random(threshold_of_text(" ".join(probability.values)), probability.negated)
    except ValueError:
        return None


def _recent(options: Options, family: IpFamily) -> AnyMatch | None:
    by_name = {option.name.lstrip("-"): option for option in options}
    operations = [name for name in ("set", "rcheck", "update", "remove") if name in by_name]
    known = {"name", "seconds", "reap", "hitcount", "mask", "rsource", "rdest", *operations}
    if len(operations) != 1 or not known.issuperset(by_name) or len(by_name) != len(options):
        return None
    flags = {"reap", "rsource", "rdest", *operations}
    if any(len(option.values) != (name not in flags) for name, option in by_name.items()):
        return None
    if any(option.negated for name, option in by_name.items() if name not in operations):
        return None
    numbers = {name: read_number(_value(by_name, name, "0")) for name in ("seconds", "hitcount")}
    if None in numbers.values():
        return None
    return matches.Recent(
        _value(by_name, "name", "DEFAULT"),
        operations[0],
        numbers["seconds"] or 0,
        "reap" in by_name,
        numbers["hitcount"] or 0,
        _value(by_name, "mask", _FULL_MASK[family]),
        "rdest" if "rdest" in by_name else "rsource",
        by_name[operations[0]].negated,
    )


def _value(by_name: dict[str, Option], name: str, default: str) -> str:
    return " ".join(by_name[name].values) if name in by_name else default


def _nfacct(options: Options, _: IpFamily) -> AnyMatch | None:
    option = _single(options, "--nfacct-name")
    return matches.Nfacct(option.values[0]) if option and not option.negated else None


def _bpf(options: Options, _: IpFamily) -> AnyMatch | None:
    option = _single(options, "--bytecode")
    if option is None or option.negated or not _PROGRAM.fullmatch(option.values[0]):
        return None
    return matches.Bpf(option.values[0])


MATCH_READERS: dict[str, MatchReader] = {
    "comment": _comment,
    "multiport": _multiport,
    "conntrack": _states("conntrack", "--ctstate"),
    "state": _states("state", "--state"),
    "mark": _mark,
    "addrtype": _addr_type,
    "statistic": _statistic,
    "recent": _recent,
    "nfacct": _nfacct,
    "bpf": _bpf,
    **{name: _transport(name) for name in TRANSPORTS},
}


def _without_options(action: actions.AnyAction) -> ActionReader:
    return lambda options, _: None if options else action


def _reject(options: Options, family: IpFamily) -> actions.AnyAction | None:
    option = _single(options, "--reject-with")
    if not options:
        return actions.Reject()
    if option is None or option.negated:
        return None
    reply = _REPLY_NAMES[family].get(option.values[0], option.values[0])
    return actions.Reject("" if reply == DEFAULT_REPLY[family] else reply)


def _dnat(options: Options, family: IpFamily) -> actions.AnyAction | None:
    option = _single(options, "--to-destination")
    if option is None or option.negated:
        return None
    host, colon, port = option.values[0].rpartition(":")
    if family is IpFamily.IPV6:
        if not (host.startswith("[") and host.endswith("]")):
            return None
        host = host[1:-1]
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    try:
        address = inet_ntop(_SOCKET_FAMILY[family], inet_pton(_SOCKET_FAMILY[family], host))
    except (OSError, ValueError):
        return None
    return actions.Dnat(Address(address), int(port))


def _masquerade(options: Options, _: IpFamily) -> actions.AnyAction | None:
    if not options:
        return actions.Masquerade()
    if len(options) == 1 and options[0] == Option("--random-fully", False, ()):
        return actions.Masquerade(random_fully=True)
    return None


def _set_mark(options: Options, _: IpFamily) -> actions.AnyAction | None:
    if len(options) != 1 or len(options[0].values) != 1 or options[0].negated:
        return None
    pair = _value_and_mask(options[0].values[0])
    if pair is None:
        return None
    value, mask = pair
    forms = {
        "--set-xmark": (value, mask),
        "--set-mark": (value, value | mask),
        "--or-mark": (value, value),
        "--and-mark": (0, ~value & matches.FULL_MARK),
        "--xor-mark": (value, 0),
    }
    form = forms.get(options[0].name)
    return actions.SetMark(*form) if form else None


ACTION_READERS: dict[str, ActionReader] = {
    "ACCEPT": _without_options(actions.Accept()),
    "DROP": _without_options(actions.Drop()),
    "RETURN": _without_options(actions.Return()),
    "REJECT": _reject,
    "DNAT": _dnat,
    "MASQUERADE": _masquerade,
    "MARK": _set_mark,
}

OTHER_TARGETS = frozenset(
    """AUDIT CHECKSUM CLASSIFY CLUSTERIP CONNMARK CONNSECMARK CT DNPT DSCP ECN HL
HMARK IDLETIMER LED LOG NETMAP NFLOG NFQUEUE NOTRACK QUEUE RATEEST REDIRECT SECMARK SET SNAT SNPT SYNPROXY
TCPMSS TCPOPTSTRIP TEE TOS TPROXY
    TRACE TTL ULOG""".split()
)
"""Targets of iptables that are kept word for word; any other name after ``-j`` is a chain."""
