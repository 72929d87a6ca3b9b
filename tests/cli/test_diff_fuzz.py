"""Damaged rule files are compared or refused; they never end in an internal error."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.golden.gallery import GALLERY

TOPICS = (
    "external-policy-local",
    "loadbalancer-source-ranges",
    "session-affinity",
    "no-endpoints",
    "dns-udp-tcp",
)
SEEDS = range(60)


def damaged(text: str, rng: random.Random) -> str:
    """Return ``text`` with a few lines or words removed, doubled, exchanged or cut."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(lines))
        words = lines[place].split(" ")
        change = rng.randrange(7)
        if change == 0:
            del lines[place]
        elif change == 1:
            lines.insert(rng.randrange(len(lines)), lines[place])
        elif change == 2:
            words.pop(rng.randrange(len(words)))
        elif change == 3:
            words[rng.randrange(len(words))] = rng.choice(
                ("!", "-j", "0", "KUBE-SERVICES", '"', "10.0.0.0/33", "\\")
            )
        elif change == 4:
            rng.shuffle(words)
        elif change == 5:
            lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
        else:
            lines = lines[: place + 1]
        if change in (2, 3, 4):
            lines[place] = " ".join(words)
        if not lines:
            return ""
    return "".join(lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_rules(run: Run, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    original = GALLERY / rng.choice(TOPICS) / "iptables.rules"
    file = tmp_path / "damaged.rules"
    file.write_text(damaged(original.read_text(), rng))
    for arguments in (
        ("diff", str(original), str(file)),
        ("diff", str(file), str(original.parent), "-o", "json"),
        ("diff", str(original), str(file), "--level", "structural", "-o", "html"),
        ("diff", str(file), str(original), "--level", "text"),
        ("import", str(file)),
    ):
        result = run(*arguments)
        assert "internal error" not in result.err, arguments
        assert result.status in (0, 1, 3)
