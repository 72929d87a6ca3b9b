"""The one place that turns problems into text: on stderr, for people or, as JSON, for programs."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from kproxy_nat.errors import KproxyNatError, LazyLocation, Location, Problem, Severity
from kproxy_nat.json_text import json_line

_RED, _YELLOW, _CYAN, _BOLD, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[1m", "\x1b[0m"
_SHOWN_WIDTH = 110
_MAX_SHOWN = 1000


@dataclass(slots=True)
class Reporter:
    """How to talk: what the global options say, and which exit status an internal error has."""

    quiet: bool = False
    verbose: bool = False
    color: bool = False
    log_format: str = "text"
    debug: bool = False
    bug_status: int = 1
    shown: int = field(default=0, init=False)

    def report(self, problems: Iterable[Problem]) -> None:
        """Print problems; warnings not with ``--quiet``; of a flood only the first thousand."""
        wanted = [p for p in problems if p.severity is Severity.ERROR or not self.quiet]
        room = max(_MAX_SHOWN - self.shown, 0) if self.log_format == "text" else len(wanted)
        for problem in wanted[:room]:
            self._emit(self._json(problem) if self.log_format == "json" else self._text(problem))
        self.shown += len(wanted)
        if len(wanted) > room:
            self._emit(f"kproxy-nat: and {len(wanted) - room} more problems (--log-format json lists all)")

    def report_error(self, error: KproxyNatError) -> None:
        """Print the problems that an exception carries."""
        self.report(error.problems)

    def note(self, message: str) -> None:
        """Print a remark."""
        if not self.quiet:
            self._emit(_json_line("info", message) if self.log_format == "json" else f"kproxy-nat: {message}")

    def explain(self, message: str) -> None:
        """Print a remark that only ``--verbose`` asks for."""
        if self.verbose:
            self.note(message)

    def report_usage(self, message: str) -> None:
        """Print what is wrong with the command line, as JSON; click has its own words for people."""
        self._emit(_json_line("error", message))

    def report_bug(self, error: Exception) -> int:
        """Print an internal error, and return the exit status for it."""
        if self.debug:
            import traceback  # noqa: PLC0415 - rarely needed

            traceback.print_exception(error)
        summary = f"internal error: {type(error).__name__}: {error}"
        help_text = "this is a bug; --debug shows where. Please report it"
        as_json = self.log_format == "json"
        text = _json_line("error", summary) if as_json else f"kproxy-nat: {summary}\n  help: {help_text}"
        self._emit(text)
        return self.bug_status

    def _emit(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    def _paint(self, text: str, *styles: str) -> str:
        return f"{''.join(styles)}{text}{_PLAIN}" if self.color else text

    def _text(self, problem: Problem) -> str:
        style = _RED if problem.severity is Severity.ERROR else _YELLOW
        head = self._paint(f"{problem.severity}[{problem.code}]", style, _BOLD)
        parts = [str(problem.location)] if problem.location else []
        parts += [problem.subject] if problem.subject else []
        lines = [f"kproxy-nat: {head}: {_printable(': '.join([*parts, problem.message]))}"]
        if problem.location:
            lines += self._excerpt(problem.location)
        if problem.hint:
            lines.append(f"  {self._paint('help:', _CYAN)} {_printable(problem.hint)}")
        return "\n".join(lines)

    def _excerpt(self, location: Location | LazyLocation) -> list[str]:
        """Return the offending line with a caret below its column; of a long line the part around it."""
        if not location.text.strip() or not location.line:
            return []
        column = max(location.column - 1, 0)
        begin = max(column - _SHOWN_WIDTH // 2, 0) if len(location.text) > _SHOWN_WIDTH else 0
        shown = _printable(location.text[begin : begin + _SHOWN_WIDTH])
        number = str(location.line)
        lines = [f"  {number} | {shown.rstrip()}"]
        if location.column:
            blanks = " " * _width(shown[: column - begin])
            lines.append(f"  {' ' * len(number)} | {blanks}{self._paint('^', _RED, _BOLD)}")
        return lines

    def _json(self, problem: Problem) -> str:
        location = problem.location
        record = {
            "severity": str(problem.severity),
            "code": str(problem.code),
            "message": problem.message,
            "subject": problem.subject,
            "source": location.source if location else "",
            "line": location.line if location else 0,
            "column": location.column if location else 0,
            "help": problem.hint,
        }
        return json_line(record)


def _json_line(severity: str, message: str) -> str:
    return json_line({"severity": severity, "message": message})


def _width(text: str) -> int:
    """Return the columns that ``text`` takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _printable(text: str) -> str:
    """Return ``text`` with one visible character for each that a terminal would act upon."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
