"""Whatever the input, the command ends with 0 or 3: never with a traceback, never with rules and an error."""

from __future__ import annotations

import random

import pytest

from tests.cli.conftest import Run
from tests.property import examples
from tests.property.test_yaml_agreement import MANIFESTS, mutate


@pytest.mark.parametrize("seed", range(6))
def test_mutated_manifests_end_with_0_or_3(seed: int, run: Run) -> None:
    rng = random.Random(seed)
    texts = [path.read_text(encoding="utf-8") for path in MANIFESTS]
    for _ in range(examples(120)):
        text = mutate(rng, rng.choice(texts))
        options = rng.choice(
            [[], ["--on-error", "exclude"], ["--strict"], ["--form", "restore"], ["--node", "n"]]
        )
        result = run("compile", "-", *options, stdin=text)
        assert result.status in (0, 3), text
        assert "Traceback" not in result.err
        assert result.status == 0 or result.out == ""
        assert result.status == 0 or "error[KPN" in result.err


@pytest.mark.parametrize("seed", range(2))
def test_any_bytes_end_with_0_or_3(seed: int, run: Run) -> None:
    rng = random.Random(seed)
    for _ in range(examples(100)):
        data = rng.choice([b"", b"\xff\xfe", b"{", b"kind: "]) + rng.randbytes(rng.randrange(60))
        result = run("compile", "-", stdin=data)
        assert result.status in (0, 3), data
        assert result.status == 0 or result.out == ""
