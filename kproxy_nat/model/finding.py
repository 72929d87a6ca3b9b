"""What validation says of an object: findings, in the object's own terms of field paths."""

from __future__ import annotations

from dataclasses import dataclass

from kproxy_nat.errors import Code, FieldPath, LazyLocation, Origin, Problem, Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a field of an object."""

    code: Code
    path: FieldPath
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def at(self, origin: Origin, subject: str) -> Problem:
        """Return the problem that this finding is, for the object read at ``origin``."""
        location = LazyLocation(origin, self.path)
        return Problem(self.code, self.message, self.severity, location, subject, self.hint)
