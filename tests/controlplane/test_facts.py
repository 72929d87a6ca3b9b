"""Each fact about endpoint controllers and allocators, and the test that would fail if it did not hold.

Numbers are those of the behaviour text from which the project began: 11 is about what makes EndpointSlices,
12 about what the API server fills in and refuses.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ALLOCATION = "tests/unit/test_controlplane_allocation.py"
ADDRESSES = "tests/unit/test_controlplane_addresses.py"
NODE_PORTS = "tests/unit/test_controlplane_node_ports.py"
ADMISSION = "tests/unit/test_controlplane_admission.py"
COMPLETION = "tests/unit/test_controlplane_completion.py"
HINTS = "tests/unit/test_controlplane_hints.py"
SLICES = "tests/unit/test_controlplane_slices.py"
MIRRORING = "tests/unit/test_mirroring.py"
OBJECTS = "tests/unit/test_validation_objects.py"
ENDPOINTS = "tests/unit/test_validation_endpoints.py"
LISTING = "tests/cli/test_listing.py"
LAWS = "tests/property/test_controlplane_laws.py"

FACTS: list[tuple[str, str, str, str]] = [
    ("11.1", "an ExternalName Service gets no slices", SLICES, "test_externalname_gets_nothing"),
    ("11.1", "nor does one without selector", SLICES, "test_a_service_without_selector_gets_nothing"),
    ("11.1", "all labels must match", SLICES, "test_pods_are_matched_by_all_labels_of_the_selector"),
    ("11.1", "in the Service's namespace", SLICES, "test_pods_of_other_namespaces_do_not_match"),
    ("11.1", "Succeeded and Failed Pods do not count", SLICES, "test_pods_that_have_ended_do_not_count"),
    ("11.1", "a Pod needs an IP", SLICES, "test_pods_without_address_do_not_count"),
    ("11.1", "terminating Pods are in slices", SLICES, "test_terminating_pods_are_included"),
    (
        "11.1",
        "hostNetwork is no special case",
        SLICES,
        "test_hostnetwork_pods_are_no_special_case_and_may_share_an_address",
    ),
    (
        "11.1",
        "a named port is found by name and protocol",
        SLICES,
        "test_a_named_target_port_is_the_first_of_that_name_and_protocol",
    ),
    ("11.1", "sidecars come after containers", SLICES, "test_sidecars_come_after_containers"),
    ("11.1", "other init containers do not count", SLICES, "test_other_init_containers_have_no_ports"),
    ("11.1", "a number is used as it is", SLICES, "test_a_numeric_target_port_is_used_as_it_is"),
    (
        "11.1",
        "an unresolved port is left out for its Pod",
        SLICES,
        "test_a_port_that_is_not_found_is_left_out_for_that_pod",
    ),
    ("11.1", "hostPort plays no role", SLICES, "test_the_host_port_plays_no_role"),
    ("11.2", "one address type for each family", SLICES, "test_one_reconciliation_for_each_of_ipfamilies"),
    (
        "11.2",
        "else that of the cluster IP, else both",
        SLICES,
        "test_without_ipfamilies_the_cluster_ip_tells_else_both",
    ),
    ("11.2", "addresses are canonical", SLICES, "test_addresses_are_canonical"),
    (
        "11.2",
        "serving is the condition Ready",
        SLICES,
        "test_a_pod_without_the_condition_ready_does_not_serve",
    ),
    (
        "11.2",
        "ready is published, or serving and not terminating",
        SLICES,
        "test_ready_is_published_or_serving_and_not_terminating",
    ),
    ("11.2", "node name, zone, target", SLICES, "test_node_zone_and_pod_are_told"),
    (
        "11.2",
        "host name if the subdomain is the Service",
        SLICES,
        "test_the_hostname_is_told_where_the_subdomain_is_the_service",
    ),
    (
        "11.2",
        "Pods on missing Nodes are skipped unless published",
        SLICES,
        "test_pods_whose_node_is_not_there_are_skipped_unless_published",
    ),
    (
        "11.2",
        "endpoints are grouped by resolved ports",
        SLICES,
        "test_endpoints_are_grouped_by_the_ports_that_they_resolve",
    ),
    (
        "11.2",
        "ports have name and protocol of the Service's",
        SLICES,
        "test_ports_have_the_service_port_s_name_protocol_and_application_protocol",
    ),
    (
        "11.2",
        "names begin with the Service's",
        SLICES,
        "test_names_are_the_service_s_with_five_letters_that_differ",
    ),
    (
        "11.2",
        "labels: the Service's and the controller's",
        SLICES,
        "test_labels_are_the_service_s_and_the_controller_s",
    ),
    (
        "11.2",
        "the headless label, also of an empty cluster IP",
        SLICES,
        "test_the_headless_label_is_there_without_cluster_ip",
    ),
    ("11.2", "at most 100 endpoints a slice", SLICES, "test_a_slice_has_at_most_100_endpoints"),
    (
        "11.2",
        "existing slices are kept",
        SLICES,
        "test_a_service_with_a_slice_in_the_input_is_left_alone",
    ),
    (
        "11.2",
        "a placeholder where there are no Pods",
        SLICES,
        "test_without_pods_a_placeholder_remains_for_each_family",
    ),
    (
        "11.2",
        "owner and trigger time are a cluster's own",
        LISTING,
        "test_derived_slices_make_up_no_identities",
    ),
    (
        "11.2",
        "order within a slice means nothing",
        SLICES,
        "test_endpoints_stand_in_the_order_of_their_addresses",
    ),
    (
        "11.3",
        "the annotation shares zones out by CPUs",
        HINTS,
        "test_the_annotation_hints_in_proportion_to_cpus",
    ),
    ("11.3", "the deprecated annotation counts, too", HINTS, "test_of_both_annotations_the_older_counts"),
    (
        "11.3",
        "two zones, CPUs and zones on all Nodes, enough endpoints, else none",
        HINTS,
        "test_no_proportional_hints_with",
    ),
    (
        "11.3",
        "Nodes not ready or of the control plane do not count",
        HINTS,
        "test_nodes_that_are_not_ready_or_of_the_control_plane_do_not_count",
    ),
    ("11.3", "overload of a fifth at most", HINTS, "test_overload_up_to_a_fifth_is_accepted"),
    (
        "11.3",
        "PreferClose and PreferSameZone: the own zone",
        HINTS,
        "test_prefer_close_and_same_zone_hint_each_ready_endpoint_at_its_own_zone",
    ),
    (
        "11.3",
        "PreferSameNode: the own node, too",
        HINTS,
        "test_prefer_same_node_hints_at_the_node_as_well",
    ),
    ("11.3", "the annotation wins", HINTS, "test_the_annotation_wins_over_the_field"),
    ("11.3", "endpoints not ready get none", HINTS, "test_an_endpoint_that_is_not_ready_gets_no_hint"),
    ("11.4", "legacy Endpoints are not derived", COMPLETION, "test_no_legacy_endpoints_are_derived"),
    (
        "11.4",
        "those of a cluster are known by their label",
        MIRRORING,
        "test_endpoints_that_a_cluster_wrote_are_its_own_account_of_the_pods",
    ),
    (
        "11.5",
        "Endpoints of Services without selector are copied",
        MIRRORING,
        "test_a_slice_belongs_to_the_service_and_keeps_labels",
    ),
    (
        "11.5",
        "not with selector",
        MIRRORING,
        "test_a_service_with_selector_is_warned_of_unless_its_slices_are_there",
    ),
    ("11.5", "not without Service", MIRRORING, "test_endpoints_without_service_are_warned_of"),
    (
        "11.5",
        "not with the opt-out label or leader annotation",
        MIRRORING,
        "test_endpoints_that_opt_out_are_left_alone",
    ),
    ("11.5", "a slice for each subset", MIRRORING, "test_there_is_a_slice_for_each_subset"),
    ("11.5", "and family", MIRRORING, "test_a_subset_of_two_families_becomes_two_slices"),
    (
        "11.5",
        "of at most 1000 addresses",
        MIRRORING,
        "test_of_a_large_subset_the_first_thousand_are_taken_ready_ones_first",
    ),
    ("11.5", "only ready is set", MIRRORING, "test_only_ready_is_set"),
    (
        "11.5",
        "annotations, host names, targets are copied",
        MIRRORING,
        "test_annotations_host_names_and_targets_are_copied",
    ),
    ("11.5", "an invalid address is told", ENDPOINTS, "test_endpoints"),
    (
        "11.6",
        "default/kubernetes is the API server's own",
        COMPLETION,
        "test_the_api_server_s_own_endpoints_are_not_derived",
    ),
    (
        "12.1",
        "defaults of Services",
        LISTING,
        "test_what_was_typed_is_kept_and_what_was_open_is_filled_in",
    ),
    ("12.1", "affinity lasts three hours", LISTING, "test_defaults_that_depend_on_other_fields"),
    ("12.1", "for 1 to 86400 seconds", OBJECTS, "test_service"),
    (
        "12.1",
        "targetPort is the port",
        SLICES,
        "test_without_target_port_it_is_the_service_s_port",
    ),
    (
        "12.1",
        "no internal policy for ExternalName",
        LISTING,
        "test_defaults_that_depend_on_other_fields",
    ),
    (
        "12.1",
        "ipMode VIP for addresses",
        LISTING,
        "test_fields_that_no_rule_depends_on_are_kept",
    ),
    (
        "12.2",
        "one address of the first family",
        ALLOCATION,
        "test_the_default_is_one_address_of_the_first_family",
    ),
    (
        "12.2",
        "headless without selector: both families",
        ALLOCATION,
        "test_headless_without_selector_has_both_families_in_every_cluster",
    ),
    (
        "12.2",
        "cluster IPs fix families in order",
        ALLOCATION,
        "test_given_cluster_ips_fix_the_families_in_order",
    ),
    (
        "12.2",
        "policies add the second family",
        ALLOCATION,
        "test_dual_stack_policies_add_the_second_family",
    ),
    (
        "12.2",
        "where the cluster has it",
        ALLOCATION,
        "test_prefer_dual_stack_makes_do_with_one_family",
    ),
    (
        "12.3",
        "neither network nor broadcast address",
        ADDRESSES,
        "test_ranges_of_16_have_one_band_without_network_and_ipv4_broadcast",
    ),
    (
        "12.3",
        "IPv6 ranges have a prefix of 64 at least",
        ADDRESSES,
        "test_ipv6_cidrs_have_at_least_64_bits_of_prefix",
    ),
    ("12.3", "static and dynamic band", ADDRESSES, "test_static_and_dynamic_band"),
    (
        "12.3",
        "addresses come from the upper band",
        ADDRESSES,
        "test_addresses_come_from_the_dynamic_band",
    ),
    (
        "12.3",
        "the search goes around",
        ADDRESSES,
        "test_probing_goes_around_at_the_end_of_the_band",
    ),
    (
        "12.3",
        "the lower band only when that is full",
        ADDRESSES,
        "test_the_lower_band_is_used_when_the_upper_one_is_full",
    ),
    (
        "12.3",
        "explicit ones from either",
        ADDRESSES,
        "test_an_explicit_address_may_come_from_either_band",
    ),
    (
        "12.3",
        "out of range is an error",
        ADDRESSES,
        "test_an_explicit_address_out_of_range_is_refused",
    ),
    (
        "12.3",
        "taken is an error",
        ADDRESSES,
        "test_an_address_that_two_ask_for_is_the_firsts_by_name",
    ),
    (
        "12.3",
        "any of several ranges will do",
        ADDRESSES,
        "test_several_cidrs_any_that_holds_an_explicit_address_and_the_next_when_one_is_full",
    ),
    (
        "12.3",
        "an address is allocated by its value",
        ADDRESSES,
        "test_addresses_are_compared_by_value",
    ),
    ("12.4", "node ports have bands, too", ADDRESSES, "test_static_and_dynamic_band"),
    (
        "12.4",
        "health checks come from the same range",
        NODE_PORTS,
        "test_health_check_node_ports_come_from_the_same_range",
    ),
    (
        "12.4",
        "protocols of one port share a node port",
        NODE_PORTS,
        "test_protocols_of_one_port_share_a_node_port",
    ),
    (
        "12.4",
        "explicit ones only without allocation",
        NODE_PORTS,
        "test_explicit_ports_without_allocation_are_taken_all_the_same",
    ),
    (
        "12.4",
        "numbers, whatever the protocol",
        NODE_PORTS,
        "test_ports_are_allocated_by_number_whatever_the_protocol",
    ),
    ("12.5", "ports: one at least, named, unique, in range", OBJECTS, "test_ports_of_a_service"),
    (
        "12.5",
        "headless Services may have none",
        SLICES,
        "test_a_headless_service_may_have_no_ports",
    ),
    (
        "12.5",
        "fields of other types are refused in typed Services",
        ADMISSION,
        "test_refused_where_something_is_open",
    ),
    (
        "12.5",
        "headless Services have no node ports",
        ADMISSION,
        "test_headless_services_have_no_node_ports",
    ),
    (
        "12.5",
        "addresses of special use",
        OBJECTS,
        "test_an_address_of_special_use_is_refused_in_any_spelling",
    ),
    ("12.5", "source ranges may have blanks", ADMISSION, "test_what_is_right_is_not_refused"),
    (
        "12.5",
        "health checks for LoadBalancer and Local",
        NODE_PORTS,
        "test_only_load_balancers_with_policy_local_have_health_checks",
    ),
    (
        "12.5",
        "ingress for LoadBalancer, ipMode with ip",
        ADMISSION,
        "test_status_that_nobody_can_have_typed",
    ),
    ("12.5", "two cluster IPs at most", OBJECTS, "test_more_than_two_cluster_ips"),
    (
        "12.6",
        "limits of slices hold for derived ones",
        LAWS,
        "test_every_derived_slice_is_within_the_limits_of_the_api",
    ),
    ("12.6", "names, protocols, ports of slices", ENDPOINTS, "test_slice"),
    ("12.6", "names of several ports of Endpoints", ENDPOINTS, "test_endpoints"),
    ("12.6", "limits of slices that are given", ENDPOINTS, "test_limits_of_a_slice"),
    (
        "12.6",
        "odd spellings are refused in new objects",
        ADMISSION,
        "test_refused_where_something_is_open",
    ),
    ("12.6", "and let pass in stored ones", ADMISSION, "test_let_pass_in_what_a_cluster_stored"),
]

NOT_HERE = {
    "12.3": "IPAddress objects are records of the allocator; nothing here reads them",
    "12.5": "immutable fields concern changes of an object, and there is but one state here",
    "12.6": "addressType is immutable: the same",
}
"""What has no test, since there is nothing that could do it."""


@pytest.mark.parametrize("number, fact, path, name", FACTS, ids=[f"{f[0]} {f[1]}" for f in FACTS])
def test_a_fact_has_a_test_that_names_it(number: str, fact: str, path: str, name: str) -> None:
    assert re.search(rf"^ *def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_section_is_covered() -> None:
    numbers = {number for number, *_ in FACTS}
    assert numbers == {f"11.{n}" for n in range(1, 7)} | {f"12.{n}" for n in range(1, 7)}
    assert numbers >= set(NOT_HERE)
