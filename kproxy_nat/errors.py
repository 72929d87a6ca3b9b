"""Problems and exceptions: one vocabulary for everything that can be wrong with an input.

A :class:`Problem` is a finding with an id, a place and a remedy. Exceptions carry problems to the one place
that turns them into text and an exit status, ``kproxy_nat.cli.report``. The catalogue of ids is
``docs/errors.md``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

FieldPath = tuple[str | int, ...]
"""The way from an object's root to a field, in the manifest's names: ``("spec", "ports", 0, "port")``."""


class Code(enum.StrEnum):
    """The stable id of each kind of problem."""

    SOURCE_NOT_FOUND = "KPN001"
    SOURCE_UNREADABLE = "KPN002"
    SOURCE_TOO_LARGE = "KPN003"
    SOURCE_EMPTY = "KPN004"
    SOURCE_NOT_TEXT = "KPN005"
    DIRECTORY_WITHOUT_MANIFESTS = "KPN006"
    NOT_A_MANIFEST = "KPN007"
    OUTPUT_UNWRITABLE = "KPN008"
    SUBMODULE = "KPN009"
    YAML_SYNTAX = "KPN010"
    JSON_SYNTAX = "KPN011"
    DUPLICATE_KEY = "KPN012"
    ALIAS_EXPANSION = "KPN013"
    WRONG_TYPE = "KPN101"
    MISSING_FIELD = "KPN102"
    PORT_RANGE = "KPN103"
    BAD_ADDRESS = "KPN104"
    BAD_CIDR = "KPN105"
    FAMILY_MISMATCH = "KPN106"
    BAD_NAME = "KPN107"
    UNSUPPORTED_VALUE = "KPN108"
    DUPLICATE_OBJECT = "KPN109"
    DUPLICATE_PORT = "KPN110"
    UNKNOWN_FIELD = "KPN111"
    OUT_OF_RANGE = "KPN112"
    INCONSISTENT = "KPN113"
    UNKNOWN_KIND = "KPN114"
    NODE_NOT_FOUND = "KPN201"
    NODE_AMBIGUOUS = "KPN202"
    CONFIG_AMBIGUOUS = "KPN203"
    BAD_OPTION = "KPN204"
    SERVICE_CONFLICT = "KPN301"
    NODE_PORT_CONFLICT = "KPN302"
    NOT_MIRRORED = "KPN303"
    NO_CLUSTER_IP = "KPN304"
    ADDRESS_TAKEN = "KPN305"
    ADDRESS_OUT_OF_RANGE = "KPN306"
    NODE_PORT_TAKEN = "KPN307"
    NODE_PORT_OUT_OF_RANGE = "KPN308"
    RANGE_EXHAUSTED = "KPN309"
    FAMILY_UNAVAILABLE = "KPN310"
    SELECTOR_WITHOUT_PODS = "KPN311"
    TARGET_PORT_NOT_FOUND = "KPN312"
    TOO_MANY_PODS = "KPN313"
    POD_NOT_PLACED = "KPN314"
    ENDPOINTS_WITHOUT_RULES = "KPN315"
    RULES_SYNTAX = "KPN401"
    RULES_UNFINISHED = "KPN402"
    RULES_UNKNOWN_CHAIN = "KPN403"
    LEVEL_UNAVAILABLE = "KPN404"
    FAMILIES_DIFFER = "KPN405"
    NO_SERVICES_TO_READ = "KPN406"
    NAMESPACE_NOT_FOUND = "KPN501"
    NOT_PERMITTED = "KPN502"
    HOST_NOT_NAMED = "KPN503"
    TOOL_MISSING = "KPN504"
    RULES_REFUSED = "KPN505"
    XTABLES_LOCKED = "KPN506"
    APPLY_UNDER_WAY = "KPN507"
    STATE_UNUSABLE = "KPN508"
    PLAN_INVALID = "KPN509"
    PLAN_OUTDATED = "KPN510"
    NOT_AS_APPLIED = "KPN511"
    NOT_RESTORED = "KPN512"
    NOT_CONFIRMED = "KPN513"
    RECOVERED = "KPN514"
    CHAIN_IN_USE = "KPN515"
    OTHER_VARIANT_LOADED = "KPN516"
    OTHER_PROXY = "KPN517"
    NOTHING_APPLIED = "KPN518"
    SYSCTL_FAILED = "KPN519"
    CONNTRACK_FAILED = "KPN520"
    KERNEL_FEATURE_MISSING = "KPN521"
    KNOWN_FAULT = "KPN522"


class Severity(enum.StrEnum):
    """How much a problem matters: an error stops the compilation, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Location:
    """A place in an input. ``line`` and ``column`` count from 1, 0 if unknown; ``text`` is the line."""

    source: str
    line: int = 0
    column: int = 0
    text: str = ""

    def __str__(self) -> str:
        parts = [self.source, *(str(n) for n in (self.line, self.column) if n)]
        return ":".join(parts)


class LazyLocation:
    """The place of a field, looked up when somebody asks: most problems of a flood are never shown."""

    __slots__ = ("_found", "_origin", "_path")

    def __init__(self, origin: Origin, path: FieldPath) -> None:
        self._origin = origin
        self._path = path
        self._found: Location | None = None

    @property
    def _location(self) -> Location:
        if self._found is None:
            self._found = self._origin.locate(self._path)
        return self._found

    @property
    def source(self) -> str:
        """See :class:`Location`."""
        return self._origin.source

    @property
    def line(self) -> int:
        """See :class:`Location`."""
        return self._location.line

    @property
    def column(self) -> int:
        """See :class:`Location`."""
        return self._location.column

    @property
    def text(self) -> str:
        """See :class:`Location`."""
        return self._location.text

    def __str__(self) -> str:
        return str(self._location)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyLocation):
            return (self._origin, self._path) == (other._origin, other._path)
        return self._location == other

    def __hash__(self) -> int:
        return hash((self._origin.source, self._origin.line, self._path))


class Origin(Protocol):
    """Where an object came from; a field of it is looked up only when somebody asks."""

    @property
    def source(self) -> str:
        """The name of the file or stream."""
        ...

    @property
    def line(self) -> int:
        """The line of the object's first key, from 1."""
        ...

    def locate(self, path: FieldPath) -> Location:
        """Return the place of the field at ``path``, or of its nearest ancestor that is there."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (or doubtful) with an input: what, where, and what to do about it."""

    code: Code
    message: str
    severity: Severity = Severity.ERROR
    location: Location | LazyLocation | None = None
    subject: str = ""
    hint: str = ""


class KproxyNatError(Exception):
    """The root of all errors that this package raises on purpose."""

    exit_status = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class InvalidInputError(KproxyNatError):
    """Manifests, rules or options that cannot be compiled; all their problems at once."""

    exit_status = 3


class ApplyError(KproxyNatError):
    """The rules could not be applied; everything is as it was before."""

    exit_status = 5


class NotRestoredError(KproxyNatError):
    """The rules could not be applied, and what was there before could not be brought back."""

    exit_status = 6


class OutputError(KproxyNatError):
    """The result could not be written; nothing was."""

    exit_status = 1
