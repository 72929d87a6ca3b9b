"""What tests say about replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kproxy_nat.lab.messages import Answer
from kproxy_nat.lab.topology import Host
from kproxy_nat.lab.traffic import Outcome, Reply
from kproxy_nat.net.addresses import Address


def answer_of(reply: Reply) -> Answer:
    """Return the answer, which there has to be."""
    assert reply.outcome is Outcome.ANSWERED
    assert reply.answer is not None
    return reply.answer


def servers_of(replies: Iterable[Reply]) -> list[str]:
    """Return who answered, question by question."""
    return [answer_of(reply).server for reply in replies]


def assert_served(replies: Iterable[Reply], endpoints: Sequence[Host], seen: Address) -> None:
    """All are answered, by these endpoints and by each of them, which saw that address as their peer's."""
    answers = [answer_of(reply) for reply in replies]
    assert {answer.peer for answer in answers} == {seen}
    assert {answer.server for answer in answers} == {endpoint.name for endpoint in endpoints}
