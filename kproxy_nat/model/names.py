"""Names that Kubernetes accepts.

Names from manifests become comments and map keys of rules. Whatever passes these checks cannot break out of a
rule: it holds no quote, space, control character or option.
"""

from __future__ import annotations

import re

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*", re.ASCII)

LABEL_RULE = "use at most 63 of the characters a-z, 0-9 and '-', with a letter or digit at both ends"
SUBDOMAIN_RULE = (
    "use at most 253 of the characters a-z, 0-9, '-' and '.', with a letter or digit at both ends"
)
INTERFACE_RULE = "use at most 15 (for a prefix 14) letters, digits and . _ - @ :, without spaces"


def is_dns_label(text: str) -> bool:
    """Tell whether ``text`` is a DNS label of RFC 1123."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    """Tell whether ``text`` is a DNS subdomain of RFC 1123."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_interface_name(text: str, *, prefix: bool = False) -> bool:
    """Tell whether ``text`` can name a network interface in a rule, or begin such names.

    The kernel's IFNAMSIZ leaves 15 bytes, of which a prefix needs one for its wildcard.
    """
    return len(text) <= 15 - prefix and _INTERFACE.fullmatch(text) is not None


def readable(text: str) -> str:
    """Return ``text`` as it is where that is safe to print, else as :func:`shown`."""
    return text if text and len(text) <= 80 and text.isascii() and text.isprintable() else shown(text)


def shown(text: str) -> str:
    """Return ``text`` for a message: quoted, control characters escaped, long ones cut."""
    quoted = ascii(text) if any(not character.isprintable() for character in text) else repr(text)
    return quoted if len(quoted) <= 80 else f"{quoted[:60]}...{quoted[0]} ({len(text)} characters)"
