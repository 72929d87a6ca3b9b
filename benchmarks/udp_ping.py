"""UDP ping-pong: ``udp_ping.py server PORT`` answers; ``udp_ping.py client ADDRESS PORT COUNT`` asks.

Each question has a socket and so a flow of its own. The client prints the round trips in microseconds,
sorted, as a list in JSON. Answers come from the address that was asked.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time

IP_PKTINFO = 8
"""Missing in ``socket`` before Python 3.13 (linux/in.h)."""
FIRST_PORT = 10_000
WARM_UP = 50
TIMEOUT = 2.0


def serve(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        server.bind(("0.0.0.0", port))
        print("ready", flush=True)
        while True:
            data, ancillary, _, client = server.recvmsg(64, 64)
            _, asked, _ = struct.unpack("I4s4s", ancillary[0][2])
            answer_from = struct.pack("I4s4s", 0, asked, bytes(4))
            server.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, answer_from)], 0, client)


def ask(address: str, port: int, count: int) -> list[float]:
    times = []
    for number in range(count + WARM_UP):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            # The kernel would draw a port again now and then, and find the flow of its first use.
            client.bind(("", FIRST_PORT + number))
            client.connect((address, port))
            start = time.perf_counter()
            client.send(b"ping")
            client.recv(64)
            times.append((time.perf_counter() - start) * 1e6)
    return sorted(times[WARM_UP:])


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if sys.argv[1] == "server":
        serve(int(sys.argv[2]))
    else:
        print(json.dumps(ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))


if __name__ == "__main__":
    main()
