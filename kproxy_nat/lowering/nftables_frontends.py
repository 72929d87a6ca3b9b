"""The elements by which nftables knows a service port's traffic: its frontends, and what is refused.

Both layouts write the same ones, and differ in where these lead to. The order is kube-proxy's order of
emission; the numbers in the comments are the steps by which ``docs/nftables-layout.md`` describes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from kproxy_nat.lowering import nftables_names as names
from kproxy_nat.lowering.nftables_common import NftTransactionBuilder
from kproxy_nat.net.addresses import Address
from kproxy_nat.proxy.endpoints import Endpoint
from kproxy_nat.proxy.view import NodeView, ServiceView
from kproxy_nat.ruleset.actions import AnyAction, Drop, Goto, Verdict
from kproxy_nat.ruleset.keys import KeyValue
from kproxy_nat.ruleset.matches import AnyMatch
from kproxy_nat.ruleset.rules import RuleOrigin

_DROP = Drop()
_REJECT = Goto(names.REJECT)


class NftFrontends(ABC):
    """The elements of one service port, written into a transaction."""

    def __init__(self, service: ServiceView, view: NodeView, out: NftTransactionBuilder) -> None:
        self.service = service
        self.port = service.port
        self.view = view
        self.out = out
        origin = self.port.origin
        text = f"{self.port.text}/{self.port.name.protocol}"
        self.origin = RuleOrigin(text, origin.source, origin.line)

    @abstractmethod
    def _dispatch_internal(self, key: KeyValue) -> None:
        """Send on the traffic to the cluster IP."""

    @abstractmethod
    def _dispatch_external(self, key: KeyValue) -> None:
        """Send on the traffic to an external IP or load balancer address."""

    @abstractmethod
    def _dispatch_node_port(self, key: KeyValue) -> None:
        """Send on the traffic to the node port."""

    @abstractmethod
    def _ensure_firewall_chain(self) -> str:
        """Return the chain that drops what comes from a source that is not admitted; it is made first."""

    def _rule(
        self,
        chain: str,
        matches: tuple[AnyMatch, ...],
        actions: tuple[AnyAction, ...],
        comment: str = "",
    ) -> None:
        self.out.rule(chain, matches, actions, comment, self.origin)

    def _hairpin(self, endpoint: Endpoint) -> None:
        """(1) Endpoints on this node may talk to themselves."""
        if endpoint.is_local:
            address = endpoint.address
            self.out.element(names.HAIRPIN_SET, (address, address, self.port.protocol, endpoint.port))

    def _frontends(self) -> None:
        """Write all elements but those of endpoints."""
        self._cluster_ip()
        self._external_ips()
        self._load_balancer_vips()
        self._node_port()

    def _cluster_ip(self) -> None:
        """(3) The cluster IP: dispatch, or refusal."""
        key = self._service_key(self.port.cluster_ip)
        self.out.element(names.CLUSTER_IPS_SET, (self.port.cluster_ip,))
        if self.service.has_internal_endpoints:
            self._dispatch_internal(key)
        self._refuse(names.NO_ENDPOINT_SERVICES_MAP, key, self._refusal(external=False))

    def _external_ips(self) -> None:
        """(4) External IPs; dispatch and refusal may both apply, for the short-circuits."""
        for address in self.port.external_ips:
            if self.service.has_endpoints:
                self._dispatch_external(self._service_key(address))
            self._refuse_external(address)

    def _load_balancer_vips(self) -> None:
        """(5) Load balancer addresses. Source ranges apply whether there are endpoints or not."""
        firewall = self._ensure_firewall_chain() if self.service.has_source_ranges else ""
        for vip in self.port.load_balancer_vips:
            key = self._service_key(vip)
            if self.service.has_endpoints:
                self._dispatch_external(key)
            if firewall:
                self.out.element(names.FIREWALL_MAP, key, Goto(firewall))
        for vip in self.port.load_balancer_vips:
            self._refuse_external(vip)

    def _node_port(self) -> None:
        """(6) The node port; never subject to source ranges."""
        if not self.port.node_port:
            return
        key: KeyValue = (self.port.protocol, self.port.node_port)
        if self.service.has_endpoints:
            self._dispatch_node_port(key)
        self._refuse(names.NO_ENDPOINT_NODE_PORTS_MAP, key, self._refusal(external=True))

    def _refusal(self, *, external: bool) -> Verdict | None:
        """Return the verdict for traffic without an endpoint; ``None`` where it has one."""
        if not self.service.has_endpoints:
            return _REJECT
        served = self.service.has_external_endpoints if external else self.service.has_internal_endpoints
        return None if served else _DROP

    def _refuse(self, name: str, key: KeyValue, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.out.element(name, key, verdict, names.element_comment(self.port.text))

    def _refuse_external(self, address: Address) -> None:
        refusal = self._refusal(external=True)
        self._refuse(names.NO_ENDPOINT_SERVICES_MAP, self._service_key(address), refusal)

    def _service_key(self, address: Address) -> KeyValue:
        return address, self.port.protocol, self.port.port
