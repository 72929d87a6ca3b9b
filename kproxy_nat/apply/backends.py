"""What holds rules of ours: iptables and nftables, for each IP family on its own."""

from __future__ import annotations

import enum

from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode


class Backend(enum.StrEnum):
    """One place for rules; the kernel obeys all of them at the same time."""

    IPTABLES = "iptables"
    IP6TABLES = "ip6tables"
    NFT_IP = "nft ip"
    NFT_IP6 = "nft ip6"

    @property
    def mode(self) -> ProxyMode:
        """The mode of kube-proxy that writes here."""
        return ProxyMode.NFTABLES if self in _NFT.values() else ProxyMode.IPTABLES

    @property
    def family(self) -> IpFamily:
        """Whose packets pass here."""
        return IpFamily.IPV6 if self in (Backend.IP6TABLES, Backend.NFT_IP6) else IpFamily.IPV4


_IPTABLES = {IpFamily.IPV4: Backend.IPTABLES, IpFamily.IPV6: Backend.IP6TABLES}
_NFT = {IpFamily.IPV4: Backend.NFT_IP, IpFamily.IPV6: Backend.NFT_IP6}


def backend_of(mode: ProxyMode, family: IpFamily) -> Backend:
    """Return the place where kube-proxy writes in this mode."""
    return (_NFT if mode is ProxyMode.NFTABLES else _IPTABLES)[family]
