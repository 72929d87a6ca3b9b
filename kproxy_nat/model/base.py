"""What all API objects share: the struct base, metadata, and the pairing of an object with its origin."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from kproxy_nat.errors import Origin

T_co = TypeVar("T_co", covariant=True)


class ApiStruct(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A part of an API object. Fields that no rule depends on are not declared, and so passed over."""


class ObjectMeta(ApiStruct, frozen=True, gc=False):
    """``metadata``: identity and labels."""

    name: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Sourced(msgspec.Struct, Generic[T_co], frozen=True, gc=False):
    """An API object and where it was read."""

    value: T_co
    origin: Origin
