"""What a namespace tells about itself, where compiling for it depends on that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kproxy_nat.apply.nfacct_objects import has_nfacct
from kproxy_nat.apply.sysctls import read_sysctl
from kproxy_nat.net.addresses import Address, IpFamily, address_value, family_of, parse_address

_IF_INET6 = Path("/proc/thread-self/net/if_inet6")
_DISABLE_IPV6 = "net.ipv6.conf.all.disable_ipv6"
_TCP_BE_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """A namespace as kube-proxy would find it.

    Attributes:
        addresses: of all interfaces, IPv4 first, each in numerical order; those of a link, too.
        tcp_be_liberal: whether connection tracking lets TCP packets out of the window pass, so that the rule
            that drops invalid packets is left out.
        families: those in which kube-proxy would work here; IPv6 may be switched off.
        nfacct: whether rules can refer to accounting objects.
    """

    addresses: tuple[Address, ...]
    tcp_be_liberal: bool
    families: frozenset[IpFamily]
    nfacct: bool


def read_facts() -> NamespaceFacts:
    """Return the facts about the namespace that the calling thread is in; reading changes nothing there.

    Whether the iptables of a family can be used is not among them: asking it would make its tables. Where
    the kernel lacks it, the engine says so.

    Raises:
        ApplyError: a kernel setting cannot be read.
    """
    return NamespaceFacts(
        tuple(sorted(set(_interface_addresses()), key=lambda a: (family_of(a), address_value(a)))),
        read_sysctl(_TCP_BE_LIBERAL) not in (None, "0"),
        frozenset(family for family in IpFamily if family is IpFamily.IPV4 or _has_ipv6()),
        has_nfacct(),
    )


def _interface_addresses() -> Iterator[Address]:
    """Yield the addresses as Go's ``net.InterfaceAddrs`` does, which kube-proxy asks.

    On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL is ours (linux/if_addr.h); IPv6
    mostly has no IFA_LOCAL.
    """
    from pyroute2 import IPRoute  # noqa: PLC0415 # a tenth of a second

    with IPRoute() as netlink:
        for message in netlink.get_addr():
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if text:
                yield parse_address(text)


def _has_ipv6() -> bool:
    """Tell whether kube-proxy would find IPv6 here: the kernel has it, and it is not switched off."""
    return _IF_INET6.exists() and read_sysctl(_DISABLE_IPV6) != "1"
