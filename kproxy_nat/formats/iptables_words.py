"""Matches and actions as arguments of iptables.

Two styles differ in a few spellings: *save*, which the kernel's tools print, and *restore*, which kube-proxy
writes. Both are tables from type to writer, one entry for each type; ``iptables_parse`` is their inverse.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kproxy_nat.formats.iptables_quoting import restore_word, save_word
from kproxy_nat.net.addresses import Address, IpFamily, join_host_port, listed_by_kernel_tools
from kproxy_nat.ruleset import actions, matches
from kproxy_nat.ruleset.probability import decimal_text, intended_share, share_text

Writer = Callable[[Any], str]
Writers = dict[type, Writer]

DEFAULT_REPLY = {IpFamily.IPV4: "icmp-port-unreachable", IpFamily.IPV6: "icmp6-port-unreachable"}


def _not(match: Any) -> str:
    return " !" if match.negated else ""


def _source(match: matches.Source) -> str:
    return f" ! -s {match.network}" if match.negated else f" -s {match.network}"


def _destination(match: matches.Destination) -> str:
    return f"{_not(match)} -d {match.network}"


def _in_interface(match: matches.InInterface) -> str:
    return f"{_not(match)} -i {match.name}"


def _out_interface(match: matches.OutInterface) -> str:
    return f"{_not(match)} -o {match.name}"


def _protocol(match: matches.Protocol) -> str:
    return f"{_not(match)} -p {match.name}"


def _opaque(item: Any) -> str:
    return f" {item.text}"


def _comment_saved(match: matches.Comment) -> str:
    return f" -m comment --comment {save_word(match.text)}"


def _comment_restored(match: matches.Comment) -> str:
    return f" -m comment --comment {restore_word(match.text)}"


def _transport(match: matches.Transport) -> str:
    return f" -m {match.protocol}{transport_options(match)}"


def transport_options(match: matches.Transport) -> str:
    """Return the port options of a transport match, without the module's name."""
    text = ""
    for option, ports in (("--sport", match.source), ("--dport", match.destination)):
        if ports is not None:
            text += f"{_not(ports)} {option} {_port_range(ports)}"
    return text


def _multiport(match: matches.Multiport) -> str:
    ranges = ",".join(map(_port_range, match.ranges))
    return f" -m multiport{_not(match)} --{match.side} {ranges}"


def _port_range(ports: matches.Ports) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}:{ports.last}"


def _ct_state(match: matches.CtState) -> str:
    option = "--ctstate" if match.module == "conntrack" else "--state"
    return f" -m {match.module}{_not(match)} {option} {','.join(match.states)}"


def _mark_saved(match: matches.Mark) -> str:
    mask = "" if match.mask == matches.FULL_MARK else f"/{match.mask:#x}"
    return f" -m mark{_not(match)} --mark {match.value:#x}{mask}"


def _mark_restored(match: matches.Mark) -> str:
    mask = "" if match.mask == matches.FULL_MARK else f"/{match.mask:#010x}"
    return f" -m mark{_not(match)} --mark {match.value:#010x}{mask}"


def _addr_type(match: matches.AddrType) -> str:
    return f" -m addrtype{_not(match)} --{match.side}-type {','.join(match.types)}"


def _random_saved(match: matches.Random) -> str:
    return f" -m statistic --mode random{_not(match)} --probability {decimal_text(match.threshold)}"


def _random_restored(match: matches.Random) -> str:
    share = intended_share(match.threshold)
    text = share_text(share) if share else decimal_text(match.threshold)
    return f" -m statistic --mode random{_not(match)} --probability {text}"


def _recent_conditions(match: matches.Recent) -> str:
    seconds = f" --seconds {match.seconds}" if match.seconds else ""
    reap = " --reap" if match.reap else ""
    hits = f" --hitcount {match.hit_count}" if match.hit_count else ""
    return seconds + reap + hits


def _recent_saved(match: matches.Recent) -> str:
    head = f" -m recent{_not(match)} --{match.operation}{_recent_conditions(match)}"
    return f"{head} --name {match.name} --mask {match.mask} --{match.side}"


_HOST_MASKS = ("", "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


def _recent_restored(match: matches.Recent) -> str:
    text = f" -m recent --name {restore_word(match.name)}{_not(match)} --{match.operation}"
    text += _recent_conditions(match)
    if match.mask not in _HOST_MASKS:
        text += f" --mask {match.mask}"
    return text if match.side == "rsource" else f"{text} --{match.side}"


def _nfacct_saved(match: matches.Nfacct) -> str:
    return f" -m nfacct --nfacct-name  {save_word(match.name)}"


def _nfacct_restored(match: matches.Nfacct) -> str:
    return f" -m nfacct --nfacct-name {restore_word(match.name)}"


def _bpf(match: matches.Bpf) -> str:
    return f' -m bpf --bytecode "{match.program}"'


def _jump(action: actions.Jump) -> str:
    return f" -j {action.chain}"


def _goto(action: actions.Goto) -> str:
    return f" -g {action.chain}"


def _dnat(action: actions.Dnat) -> str:
    if ":" not in action.address:
        return f" -j DNAT --to-destination {action.address}:{action.port}"
    address = Address(listed_by_kernel_tools(action.address))
    return f" -j DNAT --to-destination {join_host_port(address, action.port)}"


def _masquerade(action: actions.Masquerade) -> str:
    return " -j MASQUERADE --random-fully" if action.random_fully else " -j MASQUERADE"


def _set_mark_saved(action: actions.SetMark) -> str:
    return f" -j MARK --set-xmark {action.value:#x}/{action.mask:#x}"


def _set_mark_restored(action: actions.SetMark) -> str:
    if action.mask == action.value:
        return f" -j MARK --or-mark {action.value:#010x}"
    if action.mask == 0:
        return f" -j MARK --xor-mark {action.value:#010x}"
    return f" -j MARK --set-xmark {action.value:#010x}/{action.mask:#010x}"


def _reject_saved(family: IpFamily) -> Writer:
    default = DEFAULT_REPLY[family]
    return lambda action: f" -j REJECT --reject-with {action.reply or default}"


def _reject_restored(action: actions.Reject) -> str:
    return f" -j REJECT --reject-with {action.reply}" if action.reply else " -j REJECT"


_ALIKE: Writers = {
    matches.Source: _source,
    matches.Destination: _destination,
    matches.InInterface: _in_interface,
    matches.OutInterface: _out_interface,
    matches.Protocol: _protocol,
    matches.OpaqueHeader: _opaque,
    matches.Transport: _transport,
    matches.Multiport: _multiport,
    matches.CtState: _ct_state,
    matches.AddrType: _addr_type,
    matches.Bpf: _bpf,
    matches.Opaque: _opaque,
    actions.Jump: _jump,
    actions.Goto: _goto,
    actions.Return: lambda _: " -j RETURN",
    actions.Accept: lambda _: " -j ACCEPT",
    actions.Drop: lambda _: " -j DROP",
    actions.Dnat: _dnat,
    actions.Masquerade: _masquerade,
    actions.OpaqueAction: _opaque,
}


@functools.cache
def save_writers(family: IpFamily) -> Writers:
    """Return the writers of the save style; replies of REJECT have a default for each family."""
    return _ALIKE | {
        matches.Comment: _comment_saved,
        matches.Mark: _mark_saved,
        matches.Random: _random_saved,
        matches.Recent: _recent_saved,
        matches.Nfacct: _nfacct_saved,
        actions.Reject: _reject_saved(family),
        actions.SetMark: _set_mark_saved,
    }


RESTORE_WRITERS: Writers = _ALIKE | {
    matches.Comment: _comment_restored,
    matches.Mark: _mark_restored,
    matches.Random: _random_restored,
    matches.Recent: _recent_restored,
    matches.Nfacct: _nfacct_restored,
    actions.Reject: _reject_restored,
    actions.SetMark: _set_mark_restored,
}
"""The writers of the restore style."""
