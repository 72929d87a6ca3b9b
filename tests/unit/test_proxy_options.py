"""The options of a node: command line, configuration and Node object, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kproxy_nat.errors import InvalidInputError, Severity
from kproxy_nat.net.addresses import Address, Cidr, IpFamily
from kproxy_nat.proxy.options import (
    LocalCidr,
    LocalDetector,
    LocalInterface,
    LocalInterfacePrefix,
    NodeOptions,
    Overrides,
    ProxyMode,
    doubts,
    resolve_options,
)
from tests.oracle.manifests import Manifest, node, service
from tests.oracle.structs import cluster_of_structs

V4, V6 = IpFamily.IPV4, IpFamily.IPV6
EVERYWHERE = {V4: ("0.0.0.0/0",), V6: ("::/0",)}


def resolve(*manifests: Manifest, config: Manifest | None = None, **overrides: Any) -> NodeOptions:
    cluster = cluster_of_structs(*(manifests or (node(),)), config=config)
    return resolve_options(cluster, Overrides(**overrides))


def refusal(*manifests: Manifest, config: Manifest | None = None, **overrides: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        resolve(*manifests, config=config, **overrides)
    (problem,) = caught.value.problems
    return problem.code, f"{problem.message} {problem.hint}"


class TestWhoseView:
    def test_the_only_node(self) -> None:
        assert resolve(node("worker-7")).node_name == "worker-7"

    def test_one_of_several_has_to_be_named(self) -> None:
        code, text = refusal(node("b"), node("a"))
        assert code == "KPN202"
        assert "a, b" in text
        assert resolve(node("b"), node("a"), node_name="a").node_name == "a"

    def test_one_that_is_not_there(self) -> None:
        code, text = refusal(node("b"), node("a"), node_name="c")
        assert code == "KPN201"
        assert "c" in text
        assert "a, b" in text

    def test_without_any_node(self) -> None:
        assert resolve(service()).node_name == ""
        assert resolve(service(), node_name="worker-7").node_name == "worker-7"

    def test_hostname_override(self) -> None:
        """kube-proxy trims it and puts it in lower case; --node wins over it."""
        config = {"hostnameOverride": " Worker-A "}
        assert resolve(node("worker-a"), node("b"), config=config).node_name == "worker-a"
        assert resolve(node("worker-a"), node("b"), config=config, node_name="b").node_name == "b"

    def test_two_configurations(self) -> None:
        cluster = cluster_of_structs(node(), config={})
        cluster.configs *= 2
        with pytest.raises(InvalidInputError) as caught:
            resolve_options(cluster, Overrides())
        assert caught.value.problems[0].code == "KPN203"

    def test_zone(self) -> None:
        assert resolve(node(zone="zone-a")).zone == "zone-a"
        assert resolve(node(zone="zone-a"), zone="zone-b").zone == "zone-b"
        assert resolve(node(zone="zone-a"), zone="").zone == ""
        assert resolve(node()).zone == resolve(service()).zone == ""


class TestNodeIps:
    @pytest.mark.parametrize(
        "addresses, four, six",
        [
            (["192.168.0.2", "fd00::2"], "192.168.0.2", "fd00::2"),
            (["192.168.0.2", "192.168.0.3"], "192.168.0.2", "::1"),
            (["ExternalIP=203.0.113.1", "192.168.0.2"], "192.168.0.2", "::1"),
            (["ExternalIP=203.0.113.1", "fd00::2"], "203.0.113.1", "fd00::2"),
            (["Hostname=node1", "InternalDNS=node1.local"], "127.0.0.1", "::1"),
            (["192.168.000.002"], "192.168.0.2", "::1"),
            ([], "127.0.0.1", "::1"),
        ],
    )
    def test_of_the_node_object(self, addresses: list[str], four: str, six: str) -> None:
        """The first InternalIP of a family, else its first ExternalIP, else loopback."""
        options = resolve(node(addresses=addresses))
        assert (options.node_ip(V4), options.node_ip(V6)) == (four, six)

    @pytest.mark.parametrize(
        "bind, four, six",
        [
            ("", "192.168.0.2", "fd00:192:168::2"),
            ("0.0.0.0", "192.168.0.2", "fd00:192:168::2"),
            ("::", "192.168.0.2", "fd00:192:168::2"),
            ("10.0.0.9", "10.0.0.9", "fd00:192:168::2"),
            ("fd00::9", "192.168.0.2", "fd00::9"),
        ],
    )
    def test_bind_address_wins_if_it_is_one(self, bind: str, four: str, six: str) -> None:
        options = resolve(config={"bindAddress": bind})
        assert (options.node_ip(V4), options.node_ip(V6)) == (four, six)

    def test_command_line_wins(self) -> None:
        options = resolve(config={"bindAddress": "10.0.0.9"}, node_ips=[Address("10.0.0.8")])
        assert (options.node_ip(V4), options.node_ip(V6)) == ("10.0.0.8", "fd00:192:168::2")


class TestLocalAddresses:
    def test_default_is_the_nodes_addresses_and_loopback(self) -> None:
        options = resolve(node(addresses=["192.168.0.2", "ExternalIP=203.0.113.1", "Hostname=node1"]))
        assert set(options.local_addresses) == {"192.168.0.2", "203.0.113.1", "127.0.0.1", "::1"}

    def test_given_ones_replace_the_nodes(self) -> None:
        options = resolve(local_addresses=[Address("10.0.0.1"), Address("10.0.0.1")])
        assert options.local_addresses == ("10.0.0.1", "127.0.0.1", "::1")

    def test_node_ips_of_the_command_line_count(self) -> None:
        assert "10.0.0.8" in resolve(node_ips=[Address("10.0.0.8")]).local_addresses


class TestNodePortAddresses:
    @pytest.mark.parametrize(
        "given, four, six",
        [
            ([], ("0.0.0.0/0",), ("::/0",)),
            (["192.168.0.0/16"], ("192.168.0.0/16",), ("::/0",)),
            (["fd00::/8"], ("0.0.0.0/0",), ("fd00::/8",)),
            (["192.168.0.77/24", "fd00::/8", "10.0.0.0/8"], ("192.168.0.0/24", "10.0.0.0/8"), ("fd00::/8",)),
            (["primary"], ("192.168.0.2/32",), ("fd00:192:168::2/128",)),
        ],
    )
    def test_by_family(self, given: list[str], four: tuple[str, ...], six: tuple[str, ...]) -> None:
        assert resolve(config={"nodePortAddresses": given}).node_port_addresses == {V4: four, V6: six}
        assert resolve(node_port_addresses=given).node_port_addresses == {V4: four, V6: six}

    def test_command_line_wins(self) -> None:
        config = {"nodePortAddresses": ["10.0.0.0/8"]}
        options = resolve(config=config, node_port_addresses=["192.168.0.0/16"])
        assert options.node_port_addresses[V4] == ("192.168.0.0/16",)

    @pytest.mark.parametrize("addresses", [[], ["127.0.0.5"], ["::1"]])
    def test_primary_of_a_node_without_address_is_everywhere(self, addresses: list[str]) -> None:
        options = resolve(node(addresses=addresses), node_port_addresses=["primary"])
        assert options.node_port_addresses == EVERYWHERE

    def test_primary_follows_bind_address(self) -> None:
        options = resolve(config={"nodePortAddresses": ["primary"], "bindAddress": "10.0.0.9"})
        assert options.node_port_addresses[V4] == ("10.0.0.9/32",)

    LOCAL = ("192.168.7.10", "192.168.7.9", "10.0.0.1", "fd00::2", "fd00::10")

    @pytest.mark.parametrize(
        "given, family, expected",
        [
            ([], V4, None),
            (["192.168.0.0/16"], V6, None),
            (["10.0.0.0/8", "0.0.0.0/0"], V4, None),
            (["192.168.0.0/16"], V4, ("192.168.7.9", "192.168.7.10")),
            (["192.168.7.0/24", "192.168.0.0/16"], V4, ("192.168.7.9", "192.168.7.10")),
            (["172.16.0.0/12"], V4, ()),
            (["fd00::/8"], V6, ("fd00::2", "fd00::10")),
            (["127.0.0.0/8", "10.0.0.0/8"], V4, ("10.0.0.1", "127.0.0.1")),
            (["::1/128", "fd00::10/128"], V6, ("fd00::10",)),
        ],
    )
    def test_destinations(self, given: list[str], family: IpFamily, expected: tuple[str, ...] | None) -> None:
        """Sorted as numbers, each once; loopback only where it is served, that is over IPv4."""
        local = [Address(text) for text in self.LOCAL]
        options = resolve(node_port_addresses=given, local_addresses=local)
        assert options.node_port_destinations(family) == expected

    def test_loopback_is_left_out_where_it_is_not_served(self) -> None:
        options = resolve(
            node_port_addresses=["127.0.0.0/8"],
            local_addresses=[Address("127.0.0.2")],
            localhost_node_ports=False,
        )
        assert options.node_port_destinations(V4) == ()


class TestLocalhostNodePorts:
    @pytest.mark.parametrize(
        "addresses, effective",
        [
            ([], True),
            (["0.0.0.0/0"], True),
            (["127.0.0.0/8"], True),
            (["127.0.0.1/32"], True),
            (["126.0.0.0/7"], True),
            (["fd00::/8"], True),
            (["192.168.0.0/16"], False),
            (["192.168.0.0/16", "127.0.0.1/32"], True),
            (["::1/128", "192.168.0.0/16"], False),
            (["primary"], False),
        ],
    )
    def test_only_if_the_addresses_hold_loopback(self, addresses: list[str], effective: bool) -> None:
        options = resolve(node_port_addresses=addresses)
        assert options.localhost_node_ports is effective
        assert options.serves_localhost(V4) is effective
        assert not options.serves_localhost(V6)

    @pytest.mark.parametrize(
        "config, flag, expected",
        [
            (None, None, True),
            (True, None, True),
            (False, None, False),
            (False, True, True),
            (True, False, False),
        ],
    )
    def test_command_line_over_configuration(
        self, config: bool | None, flag: bool | None, expected: bool
    ) -> None:
        options = resolve(config={"iptables": {"localhostNodePorts": config}}, localhost_node_ports=flag)
        assert options.localhost_node_ports is expected


class TestDetectors:
    def detectors(self, config: Manifest, manifest: Manifest | None = None, **overrides: Any) -> Any:
        return dict(resolve(manifest or node(), config=config, **overrides).detectors)

    @pytest.mark.parametrize("mode", [{}, {"detectLocalMode": ""}, {"detectLocalMode": "ClusterCIDR"}])
    @pytest.mark.parametrize(
        "cidr, expected",
        [
            ("", {}),
            ("10.244.0.0/16", {V4: "10.244.0.0/16"}),
            ("10.244.77.1/16, fd00:10:244::/48", {V4: "10.244.0.0/16", V6: "fd00:10:244::/48"}),
            ("fd00:10:244::/48,10.244.0.0/16", {V4: "10.244.0.0/16", V6: "fd00:10:244::/48"}),
        ],
    )
    def test_cluster_cidr(self, mode: Manifest, cidr: str, expected: dict[IpFamily, str]) -> None:
        found = self.detectors({**mode, "clusterCIDR": cidr})
        assert found == {family: LocalCidr(Cidr(text)) for family, text in expected.items()}

    def test_cluster_cidr_of_the_command_line_replaces_all(self) -> None:
        config = {"clusterCIDR": "10.244.0.0/16,fd00:10:244::/48"}
        found = self.detectors(config, cluster_cidrs=[Cidr("10.0.0.0/8")])
        assert found == {V4: LocalCidr(Cidr("10.0.0.0/8"))}

    @pytest.mark.parametrize(
        "spec, expected",
        [
            (
                {"podCIDRs": ["10.244.1.0/24", "fd00::/64", "10.9.0.0/24"]},
                {V4: "10.244.1.0/24", V6: "fd00::/64"},
            ),
            ({"podCIDR": "10.244.1.0/24"}, {V4: "10.244.1.0/24"}),
            ({}, {}),
        ],
    )
    def test_node_cidr(self, spec: Manifest, expected: dict[IpFamily, str]) -> None:
        """The first network of each family; clusterCIDR plays no part."""
        config = {"detectLocalMode": "NodeCIDR", "clusterCIDR": "10.0.0.0/8"}
        found = self.detectors(config, node(**spec))
        assert found == {family: LocalCidr(Cidr(text)) for family, text in expected.items()}

    @pytest.mark.parametrize(
        "mode, field, option, detector",
        [
            ("BridgeInterface", "bridgeInterface", "bridge_interface", LocalInterface("x0")),
            (
                "InterfaceNamePrefix",
                "interfaceNamePrefix",
                "interface_name_prefix",
                LocalInterfacePrefix("x0"),
            ),
        ],
    )
    def test_interfaces(self, mode: str, field: str, option: str, detector: LocalDetector) -> None:
        """They serve both families."""
        both = {V4: detector, V6: detector}
        given: Manifest = {option: "x0"}
        assert self.detectors({"detectLocalMode": mode, "detectLocal": {field: "x0"}}) == both
        assert self.detectors({"detectLocalMode": mode, "detectLocal": {field: "y0"}}, **given) == both
        assert self.detectors({}, detect_local_mode=mode, **given) == both
        code, text = refusal(node(), config={"detectLocalMode": mode})
        assert code == "KPN204"
        assert option.replace("_", "-") in text

    @pytest.mark.parametrize("option", ["bridge_interface", "interface_name_prefix"])
    def test_an_option_that_its_mode_does_not_use_is_refused(self, option: str) -> None:
        given: Manifest = {option: "x0"}
        assert refusal(node(), detect_local_mode="NodeCIDR", **given)[0] == "KPN204"


class TestPlainOptions:
    def test_defaults(self) -> None:
        options = resolve()
        assert options.masquerade_bit == 14
        assert options.external_ips
        assert [options.masquerade_all, options.nfacct, options.tcp_be_liberal] == [False] * 3

    def test_configuration(self) -> None:
        options = resolve(
            config={
                "iptables": {"masqueradeAll": True, "masqueradeBit": 0},
                "nftables": {"masqueradeAll": False, "masqueradeBit": 9},
                "conntrack": {"tcpBeLiberal": True},
                "featureGates": {"AllowServiceExternalIPs": False, "Other": True},
            }
        )
        assert options.masquerade_bit == 0
        assert options.masquerade_all
        assert options.tcp_be_liberal
        assert not options.external_ips

    @pytest.mark.parametrize(
        "config, flag, expected", [(True, False, False), (False, True, True), (True, None, True)]
    )
    def test_masquerade_all_of_the_command_line(
        self, config: bool, flag: bool | None, expected: bool
    ) -> None:
        options = resolve(config={"iptables": {"masqueradeAll": config}}, masquerade_all=flag)
        assert options.masquerade_all is expected

    @pytest.mark.parametrize("flag, expected", [(None, 5), (0, 0), (31, 31)])
    def test_masquerade_bit_of_the_command_line(self, flag: int | None, expected: int) -> None:
        options = resolve(config={"iptables": {"masqueradeBit": 5}}, masquerade_bit=flag)
        assert options.masquerade_bit == expected

    def test_nfacct(self) -> None:
        assert resolve(nfacct=True).nfacct


class TestNftablesMode:
    def test_its_section_of_the_configuration_counts(self) -> None:
        config = {
            "mode": "nftables",
            "iptables": {"masqueradeAll": True, "masqueradeBit": 0, "localhostNodePorts": True},
            "nftables": {"masqueradeBit": 9},
        }
        options = resolve(config=config)
        assert (options.mode, options.masquerade_bit) == (ProxyMode.NFTABLES, 9)
        assert not options.masquerade_all
        assert resolve(config=config, mode=ProxyMode.IPTABLES).masquerade_all
        assert resolve(config=config, masquerade_bit=3).masquerade_bit == 3

    def test_node_ports_are_served_at_the_nodes_own_addresses(self) -> None:
        own = node(addresses=["192.168.0.2"])
        options = resolve(own, mode=ProxyMode.NFTABLES)
        assert options.node_port_addresses == {V4: ("192.168.0.2/32",), V6: ("::/0",)}
        assert options.node_port_destinations(V4) == ("192.168.0.2",)
        assert options.node_port_destinations(V6) is None
        given = resolve(own, mode=ProxyMode.NFTABLES, node_port_addresses=["0.0.0.0/0"])
        assert given.node_port_destinations(V4) is None

    def test_loopback_is_never_served(self) -> None:
        options = resolve(mode=ProxyMode.NFTABLES, node_port_addresses=["127.0.0.0/8"])
        assert not options.serves_localhost(V4)
        assert options.node_port_destinations(V4) == ()

    @pytest.mark.parametrize("option", ["localhost_node_ports", "nfacct"])
    def test_options_of_the_other_mode_are_refused(self, option: str) -> None:
        given: Manifest = {option: True}
        code, text = refusal(mode=ProxyMode.NFTABLES, **given)
        assert code == "KPN204"
        assert "it goes with mode iptables" in text

    def test_service_cidrs_have_an_order(self) -> None:
        cidrs = [Cidr("fd00::/112"), Cidr("10.97.0.0/16"), Cidr("10.96.0.0/16")]
        options = resolve(mode=ProxyMode.NFTABLES, service_cidrs=cidrs)
        assert options.service_cidrs_of(V4) == ["10.96.0.0/16", "10.97.0.0/16"]
        assert options.service_cidrs_of(V6) == ["fd00::/112"]


class TestWarningWithoutNode:
    @pytest.mark.parametrize(
        "manifests, warned",
        [
            ([service(internalTrafficPolicy="Local")], True),
            ([service(externalTrafficPolicy="Local", type="NodePort")], True),
            ([service()], False),
            ([service(internalTrafficPolicy="Local"), node()], False),
        ],
    )
    def test_if_a_policy_asks(self, manifests: Sequence[Manifest], warned: bool) -> None:
        cluster = cluster_of_structs(*manifests)
        problems = doubts(cluster, resolve_options(cluster, Overrides()), Overrides())
        assert [problem.severity for problem in problems] == ([Severity.WARNING] if warned else [])


def test_node_cidr_without_pod_networks_is_doubted() -> None:
    """kube-proxy waits for the Node's podCIDRs; without them nothing would be masqueraded."""
    overrides = Overrides(detect_local_mode="NodeCIDR")
    cluster = cluster_of_structs(service())
    (problem,) = doubts(cluster, resolve_options(cluster, overrides), overrides)
    assert "podCIDRs" in problem.message
