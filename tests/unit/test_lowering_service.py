"""The rules of one service port: which, in which words, and in which order they stand in the transaction."""

from __future__ import annotations

from typing import Any

import pytest

from kproxy_nat.net.addresses import IpFamily, parse_address
from kproxy_nat.proxy.options import Overrides, resolve_options
from kproxy_nat.proxy.view import build_view
from tests.conformance.rule_text import LAST_RULE
from tests.oracle.compiling import cluster_of, restore_text
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, node, port, service
from tests.oracle.reference_proxy import short_hash

CIDRS = "10.180.0.0/16,fd00:10:180::/48"
N = "shop/web:https"
H = "UB7LXFC7TRMUABOP"
SVC, SVL, EXT, FW = (f"KUBE-{kind}-{H}" for kind in ("SVC", "SVL", "EXT", "FW"))
REMOTE, LOCAL = endpoint("10.180.2.9", "node2"), endpoint("10.180.0.9", "node1")
SEP_REMOTE, SEP_LOCAL = (
    "KUBE-SEP-" + short_hash(f"{N}tcp{text}") for text in ("10.180.2.9:8443", "10.180.0.9:8443")
)
MARK_MASQ = "KUBE-MARK-MASQ"


def web(*, node_port: int = 0, **spec: Any) -> Manifest:
    """Return the Service that most tests here are about, with further fields."""
    return service("shop/web", "10.96.0.10", ports=[port(443, "https", nodePort=node_port)], **spec)


def own_lines(
    manifest: Manifest,
    endpoints: list[Manifest],
    *,
    config: Manifest | None = None,
    nfacct: bool = False,
    family: IpFamily = IpFamily.IPV4,
) -> list[str]:
    """Return the lines that one Service adds to the transaction, in their order there."""
    made = endpoint_slice(
        endpoints=endpoints,
        ports=[port(8443, "https")],
        family="IPv6" if family is IpFamily.IPV6 else "IPv4",
    )
    cluster = cluster_of([node(), manifest, made], {"clusterCIDR": CIDRS, **(config or {})})
    bare = cluster_of([node()], {"clusterCIDR": CIDRS, **(config or {})})
    overrides = Overrides(nfacct=nfacct, local_addresses=[parse_address("192.168.0.2")])
    texts = [
        restore_text(build_view(given, resolve_options(given, overrides), family)).splitlines()
        for given in (bare, cluster)
    ]
    rest = iter(texts[0])
    wanted = next(rest)
    own = []
    for line in texts[1]:
        if line == wanted:
            wanted = next(rest, "")
        else:
            own.append(line)
    assert wanted == ""
    return own


def declared(*chains: str) -> list[str]:
    return [f":{chain} - [0:0]" for chain in chains]


def to(address: str, comment: str, number: int = 443) -> str:
    return f'-m comment --comment "{N} {comment}" -m tcp -p tcp -d {address} --dport {number}'


def drawing(chain: str, *targets: tuple[str, str]) -> list[str]:
    """Return the rules that choose among at most two endpoints."""
    half = "-m statistic --mode random --probability 0.5000000000 "
    return [
        f'-A {chain} -m comment --comment "{N} -> {text}" {half if rest else ""}-j {target}'
        for rest, (target, text) in zip(range(len(targets) - 1, -1, -1), targets, strict=True)
    ]


def endpoint_rules(chain: str, address: str, remember: str = "") -> list[str]:
    start = f"-A {chain} -m comment --comment {N}"
    return [
        f"{start} -s {address} -j {MARK_MASQ}",
        f"{start} {remember}-m tcp -p tcp -j DNAT --to-destination {address}:8443",
    ]


BOTH = (SEP_LOCAL, "10.180.0.9:8443"), (SEP_REMOTE, "10.180.2.9:8443")
MASQUERADE_CLUSTER_IP = f"{to('10.96.0.10', 'cluster IP')} ! -s 10.180.0.0/16 -j {MARK_MASQ}"
SHORT_CUTS = [
    f'-A {EXT} -m comment --comment "pod traffic for {N} external destinations" -s 10.180.0.0/16 -j {SVC}',
    f'-A {EXT} -m comment --comment "masquerade LOCAL traffic for {N} external destinations"'
    f" -m addrtype --src-type LOCAL -j {MARK_MASQ}",
    f'-A {EXT} -m comment --comment "route LOCAL traffic for {N} external destinations"'
    f" -m addrtype --src-type LOCAL -j {SVC}",
]
MASQUERADE_OUTSIDERS = (
    f'-A {EXT} -m comment --comment "masquerade traffic for {N} external destinations" -j {MARK_MASQ}'
)


class TestClusterIp:
    def test_dispatch_masquerade_draw_translate(self) -> None:
        assert own_lines(web(), [REMOTE, LOCAL]) == [
            *declared(SVC, SEP_LOCAL, SEP_REMOTE),
            f"-A KUBE-SERVICES {to('10.96.0.10', 'cluster IP')} -j {SVC}",
            f"-A {SVC} {MASQUERADE_CLUSTER_IP}",
            *drawing(SVC, *BOTH),
            *endpoint_rules(SEP_LOCAL, "10.180.0.9"),
            *endpoint_rules(SEP_REMOTE, "10.180.2.9"),
        ]

    def test_without_endpoints(self) -> None:
        assert own_lines(web(), []) == [f"-A KUBE-SERVICES {to('10.96.0.10', 'has no endpoints')} -j REJECT"]

    def test_without_local_endpoints(self) -> None:
        assert own_lines(web(internalTrafficPolicy="Local"), [REMOTE]) == [
            f"-A KUBE-SERVICES {to('10.96.0.10', 'has no local endpoints')} -j DROP"
        ]

    def test_policy_local(self) -> None:
        assert own_lines(web(internalTrafficPolicy="Local"), [REMOTE, LOCAL]) == [
            *declared(SVL, SEP_LOCAL),
            f"-A KUBE-SERVICES {to('10.96.0.10', 'cluster IP')} -j {SVL}",
            f"-A {SVL} {MASQUERADE_CLUSTER_IP}",
            *drawing(SVL, BOTH[0]),
            *endpoint_rules(SEP_LOCAL, "10.180.0.9"),
        ]

    @pytest.mark.parametrize(
        "config, rule",
        [
            ({"clusterCIDR": "10.180.0.0/16"}, "! -s 10.180.0.0/16 "),
            ({"clusterCIDR": "fd00:10:180::/48"}, None),
            ({"clusterCIDR": ""}, None),
            ({"iptables": {"masqueradeAll": True}}, ""),
            ({"iptables": {"masqueradeAll": True}, "clusterCIDR": ""}, ""),
            ({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "br0"}}, "! -i br0 "),
            (
                {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}},
                "! -i veth+ ",
            ),
            ({"detectLocalMode": "NodeCIDR"}, None),
        ],
    )
    def test_masquerading(self, config: Manifest, rule: str | None) -> None:
        lines = [line for line in own_lines(web(), [LOCAL], config=config) if line.startswith(f"-A {SVC}")]
        expected = [] if rule is None else [f"-A {SVC} {to('10.96.0.10', 'cluster IP')} {rule}-j {MARK_MASQ}"]
        assert lines == [*expected, *drawing(SVC, BOTH[0])]

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
    def test_probabilities(self, count: int) -> None:
        endpoints = [endpoint(f"10.180.2.{number}") for number in range(1, count + 1)]
        lines = [
            line for line in own_lines(web(), endpoints) if line.startswith(f"-A {SVC}") and "->" in line
        ]
        texts = [line.partition("--probability ")[2].partition(" ")[0] for line in lines]
        assert texts == [*(f"{1 / left:.10f}" for left in range(count, 1, -1)), ""]


class TestAffinity:
    SPEC: Manifest = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    }

    def remembered(self, chain: str, target: str, text: str) -> str:
        seen = f"-m recent --name {target} --rcheck --seconds 600 --reap"
        return f'-A {chain} -m comment --comment "{N} -> {text}" {seen} -j {target}'

    def test_remembered_clients_go_before_the_draw(self) -> None:
        lines = own_lines(web(**self.SPEC), [REMOTE, LOCAL])
        assert lines[-8:] == [
            *(self.remembered(SVC, *target) for target in BOTH),
            *drawing(SVC, *BOTH),
            *endpoint_rules(SEP_LOCAL, "10.180.0.9", f"-m recent --name {SEP_LOCAL} --set "),
            *endpoint_rules(SEP_REMOTE, "10.180.2.9", f"-m recent --name {SEP_REMOTE} --set "),
        ]

    def test_both_balancing_chains_remember(self) -> None:
        spec = {**self.SPEC, "externalTrafficPolicy": "Local", "type": "NodePort", "node_port": 30443}
        lines = own_lines(web(**spec), [REMOTE, LOCAL])
        assert [line.split()[1] for line in lines if "--rcheck" in line] == [SVC, SVC, SVL]


class TestNodePort:
    def test_cluster_policy(self) -> None:
        assert own_lines(web(type="NodePort", node_port=30443), [LOCAL]) == [
            *declared(EXT, SVC, SEP_LOCAL),
            f"-A KUBE-SERVICES {to('10.96.0.10', 'cluster IP')} -j {SVC}",
            f"-A KUBE-NODEPORTS -m comment --comment {N} -m tcp -p tcp --dport 30443 -j {EXT}",
            f"-A {SVC} {MASQUERADE_CLUSTER_IP}",
            MASQUERADE_OUTSIDERS,
            f"-A {EXT} -j {SVC}",
            *drawing(SVC, BOTH[0]),
            *endpoint_rules(SEP_LOCAL, "10.180.0.9"),
        ]

    @pytest.mark.parametrize(
        "nfacct, config, counted",
        [
            (True, {}, True),
            (False, {}, False),
            (True, {"iptables": {"localhostNodePorts": False}}, False),
            (True, {"nodePortAddresses": ["192.168.0.0/16"]}, False),
            (True, {"nodePortAddresses": ["127.0.0.0/8"]}, True),
        ],
    )
    def test_loopback_is_counted_first(self, nfacct: bool, config: Manifest, counted: bool) -> None:
        lines = own_lines(web(type="NodePort", node_port=30443), [LOCAL], nfacct=nfacct, config=config)
        start = f"-A KUBE-NODEPORTS -m comment --comment {N} -m tcp -p tcp"
        counter = "-m nfacct --nfacct-name localhost_nps_accepted_pkts"
        loopback = f"{start} -d 127.0.0.0/8 --dport 30443 {counter} -j {EXT}"
        plain = f"{start} --dport 30443 -j {EXT}"
        found = [line for line in lines if line.startswith("-A KUBE-NODEPORTS")]
        assert found == ([loopback, plain] if counted else [plain])

    @pytest.mark.parametrize(
        "policy, endpoints, reason, verdict",
        [
            ("Cluster", [], "has no endpoints", "REJECT"),
            ("Local", [], "has no endpoints", "REJECT"),
            ("Local", [REMOTE], "has no local endpoints", "DROP"),
        ],
    )
    def test_refusal_is_for_all_local_addresses(
        self, policy: str, endpoints: list[Manifest], reason: str, verdict: str
    ) -> None:
        """Also for those that nodePortAddresses leaves out."""
        made = web(type="NodePort", node_port=30443, externalTrafficPolicy=policy)
        lines = own_lines(made, endpoints, config={"nodePortAddresses": ["192.168.0.0/16"]})
        assert [line for line in lines if line.startswith("-A KUBE-EXTERNAL-SERVICES")] == [
            f'-A KUBE-EXTERNAL-SERVICES -m comment --comment "{N} {reason}" -m addrtype --dst-type LOCAL'
            f" -m tcp -p tcp --dport 30443 -j {verdict}"
        ]

    def test_local_policy_without_local_endpoints_keeps_the_short_cuts(self) -> None:
        lines = own_lines(web(type="NodePort", node_port=30443, externalTrafficPolicy="Local"), [REMOTE])
        assert [line for line in lines if line.startswith(f"-A {EXT}")] == SHORT_CUTS
        assert f"-A KUBE-NODEPORTS -m comment --comment {N} -m tcp -p tcp --dport 30443 -j {EXT}" in lines

    def test_local_policy_without_detector_has_no_short_cut_for_pods(self) -> None:
        made = web(type="NodePort", node_port=30443, externalTrafficPolicy="Local")
        lines = own_lines(made, [LOCAL], config={"clusterCIDR": ""})
        assert [line for line in lines if line.startswith(f"-A {EXT}")] == [
            *SHORT_CUTS[1:],
            f"-A {EXT} -j {SVL}",
        ]


class TestExternalIps:
    def test_dispatch_in_the_order_of_the_manifest(self) -> None:
        lines = own_lines(web(externalIPs=["203.0.113.9", "203.0.113.1"]), [LOCAL])
        assert [line for line in lines if "external IP" in line] == [
            f"-A KUBE-SERVICES {to(address, 'external IP')} -j {EXT}"
            for address in ("203.0.113.9", "203.0.113.1")
        ]

    def test_dispatch_and_refusal_together(self) -> None:
        made = web(externalIPs=["203.0.113.9"], externalTrafficPolicy="Local")
        lines = own_lines(made, [REMOTE])
        assert f"-A KUBE-SERVICES {to('203.0.113.9', 'external IP')} -j {EXT}" in lines
        assert f"-A KUBE-EXTERNAL-SERVICES {to('203.0.113.9', 'has no local endpoints')} -j DROP" in lines

    def test_refusal_alone(self) -> None:
        lines = own_lines(web(externalIPs=["203.0.113.9"]), [])
        assert lines == [
            f"-A KUBE-SERVICES {to('10.96.0.10', 'has no endpoints')} -j REJECT",
            f"-A KUBE-EXTERNAL-SERVICES {to('203.0.113.9', 'has no endpoints')} -j REJECT",
        ]


class TestLoadBalancer:
    def test_everything_at_once_in_order(self) -> None:
        """Steps (1) to (11), with every one of them used."""
        made = web(
            type="LoadBalancer",
            node_port=30443,
            externalTrafficPolicy="Local",
            healthCheckNodePort=32001,
            externalIPs=["203.0.113.9"],
            vips=["198.51.100.7", "198.51.100.6"],
            loadBalancerSourceRanges=["192.0.2.0/24", "192.168.0.0/16"],
        )
        admitted = f'-A {FW} -m comment --comment "{N} loadbalancer IP"'
        assert own_lines(made, [REMOTE, LOCAL]) == [
            *(
                f"-A KUBE-PROXY-FIREWALL {to(vip, f'traffic not accepted by {FW}')} -j DROP"
                for vip in ("198.51.100.7", "198.51.100.6")
            ),
            f'-A KUBE-NODEPORTS -m comment --comment "{N} health check node port"'
            " -m tcp -p tcp --dport 32001 -j ACCEPT",
            *declared(EXT, FW, SVC, SVL, SEP_LOCAL, SEP_REMOTE),
            f"-A KUBE-SERVICES {to('10.96.0.10', 'cluster IP')} -j {SVC}",
            f"-A KUBE-SERVICES {to('203.0.113.9', 'external IP')} -j {EXT}",
            f"-A KUBE-SERVICES {to('198.51.100.7', 'loadbalancer IP')} -j {FW}",
            f"-A KUBE-SERVICES {to('198.51.100.6', 'loadbalancer IP')} -j {FW}",
            f"-A KUBE-NODEPORTS -m comment --comment {N} -m tcp -p tcp --dport 30443 -j {EXT}",
            f"-A {SVC} {MASQUERADE_CLUSTER_IP}",
            *SHORT_CUTS,
            f"-A {EXT} -j {SVL}",
            f"{admitted} -s 192.0.2.0/24 -j {EXT}",
            f"{admitted} -s 192.168.0.0/16 -j {EXT}",
            f"{admitted} -s 198.51.100.7 -j {EXT}",
            f"{admitted} -s 198.51.100.6 -j {EXT}",
            f'-A {FW} -m comment --comment "other traffic to {N} will be dropped by KUBE-PROXY-FIREWALL"',
            *drawing(SVC, *BOTH),
            *drawing(SVL, BOTH[0]),
            *endpoint_rules(SEP_LOCAL, "10.180.0.9"),
            *endpoint_rules(SEP_REMOTE, "10.180.2.9"),
        ]

    def test_refusals_come_after_all_dispatches(self) -> None:
        made = web(type="LoadBalancer", vips=["198.51.100.7", "198.51.100.6"], externalTrafficPolicy="Local")
        lines = [line for line in own_lines(made, [REMOTE]) if "198.51.100" in line]
        assert lines == [
            *(
                f"-A KUBE-EXTERNAL-SERVICES {to(vip, 'has no local endpoints')} -j DROP"
                for vip in ("198.51.100.7", "198.51.100.6")
            ),
            *(
                f"-A KUBE-SERVICES {to(vip, 'loadbalancer IP')} -j {EXT}"
                for vip in ("198.51.100.7", "198.51.100.6")
            ),
        ]

    def test_the_node_is_not_let_in_from_elsewhere(self) -> None:
        made = web(type="LoadBalancer", vips=["198.51.100.7"], loadBalancerSourceRanges=["192.0.2.0/24"])
        lines = own_lines(made, [LOCAL])
        assert not [line for line in lines if "-s 198.51.100.7" in line]

    def test_a_health_check_port_for_each_service_port(self) -> None:
        made = service(
            "shop/web",
            "10.96.0.10",
            ports=[port(80, "http"), port(53, "dns", "UDP")],
            type="LoadBalancer",
            externalTrafficPolicy="Local",
            healthCheckNodePort=32001,
        )
        lines = [line for line in own_lines(made, []) if "health check" in line]
        assert lines == [
            f'-A KUBE-NODEPORTS -m comment --comment "shop/web:{name} health check node port"'
            " -m tcp -p tcp --dport 32001 -j ACCEPT"
            for name in ("dns", "http")
        ]


class TestOtherProtocolsAndFamilies:
    @pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
    def test_protocols(self, protocol: str) -> None:
        low = protocol.lower()
        made = service("shop/web", ports=[port(53, "dns", protocol, nodePort=30053)], type="NodePort")
        cluster = cluster_of(
            [node(), made, endpoint_slice(ports=[port(5353, "dns", protocol)])], {"clusterCIDR": CIDRS}
        )
        text = restore_text(build_view(cluster, resolve_options(cluster, Overrides()), IpFamily.IPV4))
        lines = [line for line in text.splitlines() if "shop/web:dns" in line and "--dport" in line]
        assert len(lines) == 3
        assert all(f" -m {low} -p {low} " in line for line in lines)
        assert f" -m {low} -p {low} -j DNAT --to-destination 10.180.0.1:5353" in text

    def test_ipv6(self) -> None:
        made = service("shop/web", "fd00:10:96::10", ports=[port(443, "https")])
        lines = own_lines(made, [endpoint("fd00:10:180::9", "node1")], family=IpFamily.IPV6)
        sep = lines[1].split()[0][1:]
        assert lines[-3:] == [
            f'-A {SVC} -m comment --comment "{N} -> [fd00:10:180::9]:8443" -j {sep}',
            f"-A {sep} -m comment --comment {N} -s fd00:10:180::9 -j {MARK_MASQ}",
            f"-A {sep} -m comment --comment {N} -m tcp -p tcp -j DNAT --to-destination [fd00:10:180::9]:8443",
        ]

    def test_an_unnamed_port(self) -> None:
        made = service("shop/web", "10.96.0.10", ports=[port(80, "")])
        (line,) = own_lines(made, [])
        assert '--comment "shop/web has no endpoints"' in line


def test_node_port_jumps_stay_last() -> None:
    cluster = cluster_of([node(), web(type="NodePort", node_port=30443)], {"clusterCIDR": CIDRS})
    view = build_view(cluster, resolve_options(cluster, Overrides()), IpFamily.IPV4)
    assert LAST_RULE in restore_text(view).splitlines()[-2]
