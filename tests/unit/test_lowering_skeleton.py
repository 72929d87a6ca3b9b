"""The rules that belong to no Service: jumps, masquerading, forwarding, loopback, dispatch of node ports."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.iptables_render import render_restore, render_save
from kproxy_nat.lowering.iptables_common import NfacctCounter
from kproxy_nat.lowering.iptables_kube_proxy import jumps_transaction, lower_to_ruleset
from kproxy_nat.model.cluster import Cluster
from kproxy_nat.net.addresses import Address, IpFamily
from kproxy_nat.proxy.options import Overrides, resolve_options
from kproxy_nat.proxy.view import NodeView, build_view
from kproxy_nat.ruleset.transactions import evaluate
from tests.conformance.rule_text import LAST_RULE, read_chains
from tests.oracle.compiling import restore_text
from tests.oracle.manifests import Manifest, node
from tests.oracle.structs import cluster_of_structs

V4, V6 = IpFamily.IPV4, IpFamily.IPV6
COMMENT = (
    '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
)
GUARD = (
    '-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections"'
    " -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)


def empty_view(family: IpFamily = V4, config: Manifest | None = None, *, nfacct: bool = False) -> NodeView:
    cluster = cluster_of_structs(node(), config=config or {})
    return build_view(cluster, resolve_options(cluster, Overrides(nfacct=nfacct)), family)


def lines_of(family: IpFamily = V4, config: Manifest | None = None, *, nfacct: bool = False) -> list[str]:
    return restore_text(empty_view(family, config, nfacct=nfacct)).splitlines()


class TestTransaction:
    def test_of_an_empty_cluster(self) -> None:
        """Every line, in order."""
        assert lines_of() == [
            "*filter",
            ":KUBE-SERVICES - [0:0]",
            ":KUBE-EXTERNAL-SERVICES - [0:0]",
            ":KUBE-FORWARD - [0:0]",
            ":KUBE-NODEPORTS - [0:0]",
            ":KUBE-PROXY-FIREWALL - [0:0]",
            ":KUBE-FIREWALL - [0:0]",
            GUARD,
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
            '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules"'
            " -m mark --mark 0x00004000/0x00004000 -j ACCEPT",
            '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule"'
            " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "COMMIT",
            "*nat",
            ":KUBE-SERVICES - [0:0]",
            ":KUBE-NODEPORTS - [0:0]",
            ":KUBE-POSTROUTING - [0:0]",
            ":KUBE-MARK-MASQ - [0:0]",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000",
            '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT"'
            " -j MASQUERADE --random-fully",
            "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000",
            f"-A KUBE-SERVICES {COMMENT} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
            "COMMIT",
        ]

    def test_ipv6_has_no_guard_of_loopback(self) -> None:
        lines = lines_of(V6)
        assert not [line for line in lines if "KUBE-FIREWALL" in line]
        assert (
            f"-A KUBE-SERVICES {COMMENT} -m addrtype --dst-type LOCAL ! -d ::1/128 -j KUBE-NODEPORTS" in lines
        )

    @pytest.mark.parametrize(
        "bit, mark", [(0, "0x00000001"), (10, "0x00000400"), (14, "0x00004000"), (31, "0x80000000")]
    )
    def test_mark(self, bit: int, mark: str) -> None:
        lines = lines_of(config={"iptables": {"masqueradeBit": bit}})
        marks = [word for line in lines for word in line.split() if word.startswith("0x")]
        assert marks == [f"{mark}/{mark}", f"{mark}/{mark}", mark, mark]

    @pytest.mark.parametrize(
        "liberal, nfacct, rule",
        [
            (False, False, "-m conntrack --ctstate INVALID -j DROP"),
            (
                False,
                True,
                "-m conntrack --ctstate INVALID"
                " -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP",
            ),
            (True, False, None),
            (True, True, None),
        ],
    )
    @pytest.mark.parametrize("family", IpFamily)
    def test_invalid_packets(self, liberal: bool, nfacct: bool, rule: str | None, family: IpFamily) -> None:
        lines = lines_of(family, {"conntrack": {"tcpBeLiberal": liberal}}, nfacct=nfacct)
        found = [line for line in lines if "INVALID" in line]
        assert found == ([] if rule is None else [f"-A KUBE-FORWARD {rule}"])

    def test_names_of_the_accounting_objects(self) -> None:
        assert set(NfacctCounter) == {"ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"}


class TestNodePortDispatch:
    @pytest.mark.parametrize(
        "config, expected",
        [
            ({}, ["-m addrtype --dst-type LOCAL"]),
            (
                {"iptables": {"localhostNodePorts": False}},
                ["-m addrtype --dst-type LOCAL ! -d 127.0.0.0/8"],
            ),
            ({"nodePortAddresses": ["10.0.0.0/8", "0.0.0.0/0"]}, ["-m addrtype --dst-type LOCAL"]),
            ({"nodePortAddresses": ["fd00::/8"]}, ["-m addrtype --dst-type LOCAL"]),
            ({"nodePortAddresses": ["192.168.0.0/16"]}, ["-d 192.168.0.2"]),
            ({"nodePortAddresses": ["primary"]}, ["-d 192.168.0.2"]),
            ({"nodePortAddresses": ["127.0.0.0/8", "192.168.0.0/16"]}, ["-d 127.0.0.1", "-d 192.168.0.2"]),
            ({"nodePortAddresses": ["172.16.0.0/12"]}, []),
        ],
    )
    def test_ipv4(self, config: Manifest, expected: list[str]) -> None:
        found = [line for line in lines_of(V4, config) if LAST_RULE in line]
        assert found == [f"-A KUBE-SERVICES {COMMENT} {match} -j KUBE-NODEPORTS" for match in expected]

    @pytest.mark.parametrize(
        "config, expected",
        [
            ({}, ["-m addrtype --dst-type LOCAL ! -d ::1/128"]),
            ({"nodePortAddresses": ["192.168.0.0/16"]}, ["-m addrtype --dst-type LOCAL ! -d ::1/128"]),
            ({"nodePortAddresses": ["fd00::/8", "::1/128"]}, ["-d fd00:192:168::2"]),
            ({"nodePortAddresses": ["::1/128"]}, []),
        ],
    )
    def test_ipv6(self, config: Manifest, expected: list[str]) -> None:
        found = [line for line in lines_of(V6, config) if LAST_RULE in line]
        assert found == [f"-A KUBE-SERVICES {COMMENT} {match} -j KUBE-NODEPORTS" for match in expected]

    @pytest.mark.parametrize(
        "config, guarded",
        [
            ({}, True),
            ({"iptables": {"localhostNodePorts": False}}, False),
            ({"nodePortAddresses": ["192.168.0.0/16"]}, False),
            ({"nodePortAddresses": ["127.0.0.0/8"]}, True),
        ],
    )
    def test_loopback_is_guarded_where_it_is_served(self, config: Manifest, guarded: bool) -> None:
        lines = lines_of(V4, config)
        assert (GUARD in lines) is guarded
        assert (":KUBE-FIREWALL - [0:0]" in lines) is guarded

    def test_several_addresses_are_sorted_as_numbers(self) -> None:
        addresses = [Address(text) for text in ("192.168.0.10", "192.168.0.9", "10.0.0.1")]
        overrides = Overrides(local_addresses=addresses, node_port_addresses=["192.168.0.0/16", "10.0.0.0/8"])
        view = build_view(Cluster(), resolve_options(Cluster(), overrides), V4)
        jumps = [line for line in restore_text(view).splitlines() if LAST_RULE in line]
        found = [line.rpartition(" -d ")[2].split()[0] for line in jumps]
        assert found == ["10.0.0.1", "192.168.0.9", "192.168.0.10"]


class TestJumps:
    NEW = "-m conntrack --ctstate NEW "
    PORTALS = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    EXTERNAL = (
        '-m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES'
    )
    FIREWALL = '-m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL'

    @pytest.mark.parametrize("family", IpFamily)
    def test_on_a_clean_host(self, family: IpFamily) -> None:
        chains = read_chains(render_save(evaluate(jumps_transaction(family))))
        assert {key: chain.rules for key, chain in chains.items() if chain.policy != "-"} == {
            ("filter", "INPUT"): [
                "-j KUBE-FIREWALL",
                self.NEW + self.FIREWALL,
                '-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
                self.NEW + self.EXTERNAL,
            ],
            ("filter", "FORWARD"): [
                self.NEW + self.FIREWALL,
                '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
                self.NEW + self.PORTALS,
                self.NEW + self.EXTERNAL,
            ],
            ("filter", "OUTPUT"): ["-j KUBE-FIREWALL", self.NEW + self.FIREWALL, self.NEW + self.PORTALS],
            ("nat", "PREROUTING"): [self.PORTALS],
            ("nat", "INPUT"): [],
            ("nat", "OUTPUT"): [self.PORTALS],
            ("nat", "POSTROUTING"): [
                '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
            ],
        }

    def test_each_is_made_by_a_command_of_its_own_in_kube_proxys_order(self) -> None:
        lines = render_restore(jumps_transaction(V4)).splitlines()
        inserts = [line for line in lines if line.startswith("-I ")]
        assert len(inserts) == 14
        assert inserts[0] == f"-I INPUT {self.NEW}{self.EXTERNAL}"
        assert inserts[10] == "-I OUTPUT -j KUBE-FIREWALL"
        assert inserts[11] == f"-I OUTPUT {self.PORTALS}"

    @pytest.mark.parametrize("family", IpFamily)
    def test_the_firewall_chain_is_there_though_it_may_be_empty(self, family: IpFamily) -> None:
        ruleset = lower_to_ruleset(empty_view(family, {"iptables": {"localhostNodePorts": False}}))
        assert ruleset.tables["filter"].chains["KUBE-FIREWALL"].rules == []
