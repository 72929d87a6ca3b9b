"""Cluster IPs and load balancer addresses that manifests leave open, and the pools that they come from."""

from __future__ import annotations

import pytest

from kproxy_nat.controlplane.allocation import AllocationOptions, complete_services
from kproxy_nat.controlplane.pools import (
    Band,
    Pool,
    service_bands,
    stable_hash,
)
from kproxy_nat.errors import Code, Severity
from kproxy_nat.model.service import LoadBalancerIngress
from kproxy_nat.net.addresses import address_value, cidr_contains, parse_address, parse_cidr
from tests.unit.allocations import (
    ONE_PORT,
    SINGLE,
    TWO_PORTS,
    completed,
    derived,
    loaded,
    place,
    ranges,
    refused,
    service,
    spec_of,
    texts,
)


class TestClusterIps:
    """Section 12.3."""

    @pytest.mark.parametrize(
        "cidr, upper, lower",
        [
            ("10.96.0.0/12", ("10.96.1.1", "10.111.255.254"), ("10.96.0.1", "10.96.1.0")),
            ("10.0.0.0/20", ("10.0.1.1", "10.0.15.254"), ("10.0.0.1", "10.0.1.0")),
            ("10.0.0.0/23", ("10.0.0.33", "10.0.1.254"), ("10.0.0.1", "10.0.0.32")),
            ("10.0.0.0/24", ("10.0.0.17", "10.0.0.254"), ("10.0.0.1", "10.0.0.16")),
            ("10.0.0.0/27", ("10.0.0.17", "10.0.0.30"), ("10.0.0.1", "10.0.0.16")),
            ("fd00::/112", ("fd00::101", "fd00::ffff"), ("fd00::1", "fd00::100")),
            ("fd00::/64", ("fd00::101", "fd00::ffff:ffff:ffff:ffff"), ("fd00::1", "fd00::100")),
        ],
    )
    def test_static_and_dynamic_band(self, cidr: str, upper: tuple[str, str], lower: tuple[str, str]) -> None:
        expected = [Band(*(address_value(parse_address(text)) for text in ends)) for ends in (upper, lower)]
        assert list(service_bands(parse_cidr(cidr))) == expected

    @pytest.mark.parametrize("cidr, usable", [("10.0.0.0/28", 14), ("10.0.0.0/30", 2), ("fd00::/124", 15)])
    def test_ranges_of_16_have_one_band_without_network_and_ipv4_broadcast(
        self, cidr: str, usable: int
    ) -> None:
        upper, lower = service_bands(parse_cidr(cidr))
        assert (upper.size, lower.size) == (usable, 0)

    def test_addresses_come_from_the_dynamic_band(self) -> None:
        band = service_bands(parse_cidr("10.96.0.0/12"))[0]
        for made in completed(*(service(f"web{number}") for number in range(50))):
            value = address_value(parse_address(made.spec.cluster_ip))
            assert band.first <= value <= band.last

    def test_an_address_is_a_function_of_namespace_name_and_family(self) -> None:
        band = service_bands(parse_cidr("10.96.0.0/12"))[0]
        value = band.first + stable_hash("clusterIP/shop/web/IPv4") % band.size
        assert address_value(parse_address(spec_of(ONE_PORT).cluster_ip)) == value
        assert spec_of(f"type: NodePort, selector: {{a: b}}, {TWO_PORTS}").cluster_ip == (
            spec_of(ONE_PORT).cluster_ip
        )

    def test_the_hash_is_the_same_in_every_release(self) -> None:
        assert spec_of(ONE_PORT).cluster_ip == "10.97.100.102"
        assert spec_of(f"ipFamilies: [IPv6], {ONE_PORT}").cluster_ip == "fd00:10:96::98d0"
        assert spec_of(f"type: NodePort, {ONE_PORT}").ports[0].node_port == 32221

    @pytest.mark.parametrize("address", ["10.96.0.1", "10.96.0.200", "10.99.0.1", "10.111.255.254"])
    def test_an_explicit_address_may_come_from_either_band(self, address: str) -> None:
        assert spec_of(f"clusterIP: {address}, {ONE_PORT}").cluster_ip == address

    @pytest.mark.parametrize(
        "address", ["10.95.0.1", "10.96.0.0", "10.111.255.255", '"fd00:10:97::1"', '"fd00:10:96::"']
    )
    def test_an_explicit_address_out_of_range_is_refused(self, address: str) -> None:
        problem = refused(service("ok"), service("web", f"clusterIP: {address}, {ONE_PORT}"))
        assert problem.code is Code.ADDRESS_OUT_OF_RANGE
        shown = address.strip('"')
        assert problem.message.startswith(f"clusterIP {shown} is not an address of the service CIDRs (10.")
        assert place(problem).startswith("x.yaml:3:")

    def test_an_address_of_a_family_without_cidr_is_refused(self) -> None:
        problem = refused(service("web", f'clusterIP: "fd00::1", {ONE_PORT}'), options=SINGLE)
        assert problem.code is Code.ADDRESS_OUT_OF_RANGE

    def test_an_address_that_two_ask_for_is_the_firsts_by_name(self) -> None:
        asked = f"clusterIP: 10.96.0.10, {ONE_PORT}"
        problem = refused(service("b", asked), service("a", asked))
        assert problem.code is Code.ADDRESS_TAKEN
        assert problem.subject == "Service shop/b"
        assert problem.message == "clusterIP 10.96.0.10 belongs to Service shop/a (x.yaml:3) already"
        assert place(problem).startswith("x.yaml:1:")

    def test_addresses_are_compared_by_value(self) -> None:
        one, same = (f'clusterIP: "{text}", {ONE_PORT}' for text in ("fd00:10:96::a", "fd00:10:96:0::000A"))
        assert refused(service("a", one), service("b", same)).code is Code.ADDRESS_TAKEN

    def test_an_explicit_address_is_never_given_away(self) -> None:
        usual = spec_of(ONE_PORT).cluster_ip
        other, web = completed(service("other", f"clusterIP: {usual}, {ONE_PORT}"), service("web"))
        assert other.spec.cluster_ip == usual
        assert address_value(parse_address(web.spec.cluster_ip)) == address_value(parse_address(usual)) + 1

    def test_a_collision_is_reported(self) -> None:
        usual = spec_of(ONE_PORT).cluster_ip
        assert texts(service("other", f"clusterIP: {usual}, {ONE_PORT}"), service("web")) == [
            f"Service shop/web: clusterIP 10.97.100.103; its usual address {usual} "
            "is taken by Service shop/other"
        ]

    def test_the_lower_band_is_used_when_the_upper_one_is_full(self) -> None:
        options = ranges("10.0.0.0/27")
        services = completed(*(service(f"s{number}") for number in range(30)), options=options)
        values = sorted(address_value(parse_address(made.spec.cluster_ip)) & 31 for made in services)
        assert values == list(range(1, 31))
        some = completed(*(service(f"s{number}") for number in range(14)), options=options)
        assert min(address_value(parse_address(made.spec.cluster_ip)) & 31 for made in some) == 17

    @pytest.mark.parametrize(
        "cidr, usable", [("10.0.0.0/30", 2), ("10.0.0.0/29", 6), ("10.0.0.0/32", 0), ("fd00::/126", 3)]
    )
    def test_a_full_range_is_an_error(self, cidr: str, usable: int) -> None:
        documents = [service(f"s{number}") for number in range(usable + 1)]
        services, derivation = complete_services(loaded(*documents), ranges(cidr))
        assert len({sourced.value.spec.cluster_ip for sourced in services}) == usable + 1
        (problem,) = derivation.problems
        assert problem.code is Code.RANGE_EXHAUSTED
        assert problem.message == f"no clusterIP is left: all of {cidr} is taken"
        assert problem.hint == "enlarge the range with --service-cidr"
        assert place(problem).startswith("x.yaml:")

    def test_several_cidrs_any_that_holds_an_explicit_address_and_the_next_when_one_is_full(self) -> None:
        options = ranges("10.0.0.0/30", "10.0.1.0/30")
        asked = service("z", f"clusterIP: 10.0.1.2, {ONE_PORT}")
        services = completed(asked, *(service(f"s{number}") for number in range(3)), options=options)
        assert sorted(made.spec.cluster_ip for made in services) == [
            *("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2")
        ]
        first = spec_of(ONE_PORT, options).cluster_ip
        assert cidr_contains(options.service_cidrs[0], parse_address(first))

    def test_ipv6_cidrs_have_at_least_64_bits_of_prefix(self) -> None:
        services = loaded(service("web"))
        result, derivation = complete_services(services, ranges("fd00::/63"))
        assert result == services
        (problem,) = derivation.problems
        assert problem.code is Code.BAD_OPTION
        assert place(problem) == "--service-cidr"
        assert not derived(service("web"), options=ranges("fd00::/64")).problems

    @pytest.mark.parametrize(
        "options, option",
        [
            (AllocationOptions(()), "--service-cidr"),
            (ranges(node_ports=(32767, 30000)), "--node-port-range"),
            (ranges(node_ports=(0, 100)), "--node-port-range"),
            (ranges(node_ports=(1, 65536)), "--node-port-range"),
            (ranges(pool=("10.0.0.0/8",)), "--load-balancer-pool"),
        ],
    )
    def test_ranges_that_make_no_sense_are_errors_of_the_option(
        self, options: AllocationOptions, option: str
    ) -> None:
        (problem,) = derived(service("web"), options=options).problems
        assert (problem.code, place(problem)) == (Code.BAD_OPTION, option)


class TestLoadBalancerAddresses:
    POOLED = ranges("10.96.0.0/12", "fd00:10:96::/112", pool=("203.0.113.0/29", "2001:db8::/124"))
    KIND = f"type: LoadBalancer, {ONE_PORT}"

    def ingress(self, *documents: str) -> list[list[str]]:
        services = completed(*documents, options=self.POOLED)
        return [[entry.ip for entry in made.status.load_balancer.ingress] for made in services]

    def test_an_address_for_each_family(self) -> None:
        ((one,), (four, six)) = self.ingress(
            service("one", self.KIND), service("two", f"ipFamilyPolicy: PreferDualStack, {self.KIND}")
        )
        assert one != four
        assert cidr_contains(self.POOLED.load_balancer_pool[0], parse_address(one))
        assert cidr_contains(self.POOLED.load_balancer_pool[1], parse_address(six))

    def test_it_is_reported(self) -> None:
        ((address,),) = self.ingress(service("web", self.KIND))
        found = texts(service("web", self.KIND), options=self.POOLED)
        assert found[-1] == f"Service shop/web: load balancer IP {address}"

    def test_no_pool_no_address(self) -> None:
        (made,) = completed(service("web", self.KIND))
        assert made.status.load_balancer.ingress == []

    def test_other_types_have_none(self) -> None:
        assert self.ingress(service("web"), service("np", f"type: NodePort, {ONE_PORT}")) == [[], []]

    def test_given_addresses_are_kept_and_never_given_away(self) -> None:
        ((usual,),) = self.ingress(service("web", self.KIND))
        status = f"{{loadBalancer: {{ingress: [{{ip: {usual}}}]}}}}"
        (held, (moved,)) = self.ingress(service("other", self.KIND, status), service("web", self.KIND))
        assert held == [usual]
        assert moved != usual
        (_, (again,)) = self.ingress(
            service("ext", f"externalIPs: [{usual}], {ONE_PORT}"), service("web", self.KIND)
        )
        assert again == moved

    def test_a_host_name_is_an_address_too(self) -> None:
        status = "{loadBalancer: {ingress: [{hostname: lb.example.com}]}}"
        (made,) = completed(service("web", self.KIND, status), options=self.POOLED)
        assert made.status.load_balancer.ingress == [LoadBalancerIngress(hostname="lb.example.com")]

    def test_an_empty_pool_is_an_error(self) -> None:
        options = ranges(pool=("203.0.113.9/32",))
        problem = refused(service("a", self.KIND), service("b", self.KIND), options=options)
        assert problem.code is Code.RANGE_EXHAUSTED
        assert problem.message == "no load balancer IP is left: all of 203.0.113.9/32 is taken"

    def test_a_pool_of_the_other_family_is_a_warning(self) -> None:
        options = ranges(pool=("2001:db8::/124",))
        services, derivation = complete_services(loaded(service("web", self.KIND)), options)
        (problem,) = derivation.problems
        assert (problem.code, problem.severity) == (Code.FAMILY_UNAVAILABLE, Severity.WARNING)
        assert services[0].value.spec.cluster_ip


class TestPool:
    def test_those_displaced_push_nobody_aside(self) -> None:
        """Two requests with one usual value, a third one's is the next: it keeps that."""
        band = Band(0, 9)
        by_start: dict[int, list[str]] = {}
        for number in range(100):
            by_start.setdefault(band.start(stable_hash(str(number))), []).append(str(number))
        first, second, third = *by_start[4][:2], by_start[5][0]
        pool: Pool[str] = Pool("", [band])
        assigned = pool.assign([(first, "first"), (second, "second"), (third, "third")])
        assert assigned == [(4, 4, None), (6, 4, "first"), (5, 5, None)]

    def test_probing_goes_around_at_the_end_of_the_band(self) -> None:
        band = Band(10, 12)
        pool: Pool[str] = Pool("", [band])
        key = next(str(n) for n in range(99) if band.start(stable_hash(str(n))) == 12)
        pool.hold(12, "other")
        assert pool.assign([(key, "a"), (key, "b"), (key, "c")]) == [
            *((10, 12, "other"), (11, 12, "other"), None)
        ]
