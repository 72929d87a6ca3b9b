"""Accounting objects of netfilter (nfacct(8)) in the namespace that the calling thread is in.

A rule with ``-m nfacct`` counts into a named object, which has to be there before the rule is loaded and
cannot go while a rule refers to it. The messages are those of linux/netfilter/nfnetlink_acct.h.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kproxy_nat.errors import ApplyError, Code, Problem

_NEW, _GET, _DELETE = 0, 1, 3
"""NFNL_MSG_ACCT_NEW, _GET and _DEL."""


class _RefusedError(Exception):
    """What the kernel said: an errno, and the text for it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def has_nfacct() -> bool:
    """Tell whether accounting objects can be used here: the kernel has them, and the caller may."""
    try:
        with _socket() as netlink:
            _list(netlink)
    except _RefusedError:
        return False
    return True


def list_nfacct() -> frozenset[str]:
    """Return the names of all accounting objects, whoever made them.

    Raises:
        ApplyError: the kernel has none, or does not permit it.
    """
    try:
        with _socket() as netlink:
            return _list(netlink)
    except _RefusedError as refusal:
        raise _error("cannot list accounting objects", refusal) from None


def ensure_nfacct(names: Iterable[str]) -> tuple[str, ...]:
    """Make accounting objects of these names, all or none; return those that were not there before.

    Raises:
        ApplyError: the kernel has none, does not permit it, or does not take a name (31 bytes at most).
    """
    made: list[str] = []
    try:
        with _socket() as netlink:
            for name in names:
                if _create(netlink, name):
                    made.append(name)
    except _RefusedError as refusal:
        if made:
            delete_nfacct(made)
        raise _error("cannot make accounting objects", refusal) from None
    return tuple(made)


def delete_nfacct(names: Iterable[str]) -> tuple[str, ...]:
    """Delete accounting objects, but keep those that rules refer to; return the latter.

    One that is not there is none to be deleted.

    Raises:
        ApplyError: the kernel has none, or does not permit it.
    """
    kept: list[str] = []
    try:
        with _socket() as netlink:
            for name in names:
                if not _delete(netlink, name):
                    kept.append(name)
    except _RefusedError as refusal:
        raise _error("cannot delete accounting objects", refusal) from None
    return tuple(kept)


def _list(netlink: Any) -> frozenset[str]:
    from pyroute2.netlink import NLM_F_DUMP  # noqa: PLC0415 # a tenth of a second, as all of pyroute2

    listed = _request(netlink, _GET, NLM_F_DUMP)
    names = (message.get_attr("NFACCT_NAME") for message in listed)
    return frozenset(str(name) for name in names)


def _create(netlink: Any, name: str) -> bool:
    """Make an object; return whether it was not there."""
    from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL  # noqa: PLC0415

    try:
        _request(netlink, _NEW, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, name)
    except _RefusedError as refusal:
        if refusal.code != errno.EEXIST:
            raise
        return False
    return True


def _delete(netlink: Any, name: str) -> bool:
    """Delete an object; return whether it is gone."""
    from pyroute2.netlink import NLM_F_ACK  # noqa: PLC0415

    try:
        _request(netlink, _DELETE, NLM_F_ACK, name)
    except _RefusedError as refusal:
        if refusal.code not in (errno.EBUSY, errno.ENOENT):
            raise
        return refusal.code == errno.ENOENT
    return True


def _request(netlink: Any, command: int, flags: int, name: str | None = None) -> list[Any]:
    """Send a message, and return the answers."""
    from pyroute2.netlink import NLM_F_REQUEST  # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    message = _message_class()()
    if name is not None:
        message["attrs"].append(("NFACCT_NAME", name))
    try:
        return list(netlink.nlm_request(message, _message_type(command), NLM_F_REQUEST | flags))
    except NetlinkError as error:
        raise _RefusedError(error.code, str(error.args[-1])) from None


@contextmanager
def _socket() -> Iterator[Any]:
    from pyroute2.netlink import NETLINK_NETFILTER  # noqa: PLC0415
    from pyroute2.netlink.nlsocket import NetlinkSocket  # noqa: PLC0415

    try:
        netlink = NetlinkSocket(NETLINK_NETFILTER)
    except OSError as error:
        raise _RefusedError(error.errno or 0, error.strerror or str(error)) from None
    with netlink:
        # The kernel answers a request to get with messages of the type that makes.
        netlink.register_policy({_message_type(_NEW): _message_class()})
        yield netlink


def _message_type(command: int) -> int:
    from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_ACCT  # noqa: PLC0415

    return int(NFNL_SUBSYS_ACCT) << 8 | command


@functools.cache
def _message_class() -> Any:
    """Return the class of messages about accounting objects, with the attributes that we use."""
    from pyroute2.netlink.nfnetlink import nfgen_msg  # noqa: PLC0415

    attributes = (("NFACCT_UNSPEC", "none"), ("NFACCT_NAME", "asciiz"))
    return type("nfacct_msg", (nfgen_msg,), {"prefix": "NFACCT_", "nla_map": attributes})


def _error(message: str, refusal: _RefusedError) -> ApplyError:
    if refusal.code == errno.EPERM:
        return ApplyError(Problem(Code.NOT_PERMITTED, f"{message}: {refusal.reason}", hint="run as root"))
    hint = "load the module nfnetlink_acct, or compile with --no-nfacct"
    return ApplyError(Problem(Code.KERNEL_FEATURE_MISSING, f"{message}: {refusal.reason}", hint=hint))
