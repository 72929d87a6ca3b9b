"""The options that shape the rules: the same names and meanings on every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kproxy_nat.cli.report import Reporter
from kproxy_nat.lowering.iptables_compact import Hairpin
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.model.names import INTERFACE_RULE, is_dns_subdomain, is_interface_name
from kproxy_nat.model.node_validation import PRIMARY
from kproxy_nat.net.addresses import Address, AddressError, Cidr, family_of, parse_address, parse_cidr
from kproxy_nat.proxy.options import Overrides, ProxyMode

F = TypeVar("F", bound=Callable[..., Any])


class AddressType(click.ParamType[Address]):
    """An IP address; with ``networks``, the prefix length of an interface address is allowed and dropped."""

    name = "address"

    def __init__(self, *, with_length: bool = False) -> None:
        self.with_length = with_length

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse the value."""
        try:
            if self.with_length and "/" in value:
                parse_cidr(value)
                return parse_address(value.partition("/")[0])
            return parse_address(value)
        except AddressError as error:
            self.fail(str(error), param, ctx)


class CidrType(click.ParamType[Cidr]):
    """A network; with ``primary``, that word too."""

    name = "cidr"

    def __init__(self, *, primary: bool = False) -> None:
        self.primary = primary

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Cidr:
        """Parse the value."""
        if self.primary and value == PRIMARY:
            return Cidr(value)
        try:
            return parse_cidr(value)
        except AddressError as error:
            self.fail(str(error), param, ctx)


class InterfaceType(click.ParamType[str]):
    """The name of a network interface, or the beginning of such names."""

    name = "interface"

    def __init__(self, *, prefix: bool = False) -> None:
        self.prefix = prefix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the value."""
        if not is_interface_name(value, prefix=self.prefix):
            self.fail(f"{value!r} cannot name an interface: {INTERFACE_RULE}", param, ctx)
        return str(value)


class NodeNameType(click.ParamType[str]):
    """The name of a Node."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the value."""
        if not is_dns_subdomain(value):
            self.fail(f"{value!r} is not a valid Node name", param, ctx)
        return str(value)


class CommaList(click.ParamType[list[Any]]):
    """A comma-separated list; the option may be repeated as well."""

    def __init__(self, item: click.ParamType[Any]) -> None:
        self.item = item
        self.name = f"{item.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Convert each item."""
        return [self.item.convert(part.strip(), param, ctx) for part in value.split(",") if part.strip()]


def verbosity_options(command: F) -> F:
    """Let ``-v`` and ``-q`` stand after the command, too."""
    for short, long, field in (("-v", "--verbose", "verbose"), ("-q", "--quiet", "quiet")):
        command = click.option(
            short,
            long,
            is_flag=True,
            expose_value=False,
            callback=_setter(field),
            help="As before the command.",
        )(command)
    return command


def _setter(field: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def set_field(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        reporter = ctx.find_object(Reporter)
        if value and reporter is not None:
            setattr(reporter, field, True)

    return set_field


def rule_options(command: F) -> F:
    """Add the options that shape the rules to a command, as the parameter ``overrides``."""
    for option in reversed(_RULE_OPTIONS):
        command = option(command)
    return command


_RULE_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--config", type=click.Path(), metavar="FILE", help="A KubeProxyConfiguration; options win over it."
    ),
    click.option("--node", "node_name", type=NodeNameType(), help="Whose view. Default: the only Node."),
    click.option(
        "--node-ip",
        "node_ips",
        type=CommaList(AddressType()),
        multiple=True,
        help="Default: the Node's addresses.",
    ),
    click.option("--zone", help="The node's zone. Default: the Node's label."),
    click.option(
        "--local-address",
        "local_addresses",
        type=CommaList(AddressType(with_length=True)),
        multiple=True,
        help="Addresses of the node's interfaces. Default: the Node's; when applying, the namespace's.",
    ),
    click.option(
        "--cluster-cidr",
        "cluster_cidrs",
        type=CommaList(CidrType()),
        multiple=True,
        help="Networks of the pods.",
    ),
    click.option(
        "--detect-local-mode",
        type=click.Choice(["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]),
        help="How traffic of the cluster's own pods is told from other. Default: ClusterCIDR.",
    ),
    click.option("--bridge-interface", type=InterfaceType(), help="For --detect-local-mode BridgeInterface."),
    click.option(
        "--interface-name-prefix",
        type=InterfaceType(prefix=True),
        help="For --detect-local-mode InterfaceNamePrefix.",
    ),
    click.option(
        "--masquerade-all/--no-masquerade-all", default=None, help="Masquerade all traffic to cluster IPs."
    ),
    click.option(
        "--masquerade-bit", type=click.IntRange(0, 31), help="The bit that marks traffic. Default: 14."
    ),
    click.option(
        "--node-port-addresses",
        type=CommaList(CidrType(primary=True)),
        multiple=True,
        help="Networks whose local addresses serve NodePorts, or 'primary', which is the default of nftables "
        "mode. Default of iptables mode: all.",
    ),
    click.option(
        "--localhost-node-ports/--no-localhost-node-ports",
        default=None,
        help="Serve NodePorts on 127.0.0.1 (iptables mode). Default: if --node-port-addresses holds it.",
    ),
    click.option(
        "--nfacct/--no-nfacct",
        default=None,
        help="Count with kube-proxy's nfacct objects (iptables mode). Default: when applying, if possible.",
    ),
    click.option(
        "--mode",
        type=click.Choice([mode.value for mode in ProxyMode]),
        help="The proxy mode. Default: the configuration's, else iptables.",
    ),
    click.option(
        "--hairpin",
        type=click.Choice([form.value for form in Hairpin]),
        default=Hairpin.BPF.value,
        show_default=True,
        help="How --layout compact tells traffic that comes back to its sender: bpf needs xt_bpf in the "
        "kernel, addresses needs a rule for each endpoint's address.",
    ),
]


def layout_option(command: F) -> F:
    """Add the choice of a layout to a command."""
    return _LAYOUT(command)


_LAYOUT = click.option(
    "--layout",
    type=click.Choice([name.value for name in LayoutName]),
    default=LayoutName.KUBE_PROXY.value,
    show_default=True,
    help="How the rules are arranged. compact: the same behaviour, fewer rules (docs/compact-layout.md).",
)


def overrides_from(params: dict[str, Any]) -> Overrides:
    """Return what the command line says about the rules.

    Raises:
        click.BadParameter: options contradict each other.
    """
    cluster_cidrs = flatten(params["cluster_cidrs"])
    families = [family_of(cidr) for cidr in cluster_cidrs]
    if len(set(families)) < len(families):
        raise click.BadParameter("give at most one network of each family", param_hint="'--cluster-cidr'")
    node_port_addresses = flatten(params["node_port_addresses"])
    if PRIMARY in node_port_addresses and len(node_port_addresses) > 1:
        raise click.BadParameter(
            "'primary' cannot be mixed with networks", param_hint="'--node-port-addresses'"
        )
    return Overrides(
        node_name=params["node_name"],
        zone=params["zone"],
        node_ips=flatten(params["node_ips"]),
        local_addresses=flatten(params["local_addresses"]),
        cluster_cidrs=cluster_cidrs,
        detect_local_mode=params["detect_local_mode"],
        bridge_interface=params["bridge_interface"],
        interface_name_prefix=params["interface_name_prefix"],
        node_port_addresses=node_port_addresses,
        masquerade_all=params["masquerade_all"],
        masquerade_bit=params["masquerade_bit"],
        localhost_node_ports=params["localhost_node_ports"],
        nfacct=params["nfacct"],
        mode=ProxyMode(params["mode"]) if params["mode"] else None,
        service_cidrs=flatten(params["service_cidrs"]),
    )


def layout_from(params: dict[str, Any]) -> Layout:
    """Return the layout that the command line asks for."""
    return Layout(LayoutName(params["layout"]), Hairpin(params["hairpin"]))


def flatten(lists: tuple[list[Any], ...]) -> list[Any]:
    """Return the items of a list option that may be repeated, in order."""
    return [item for items in lists for item in items]
