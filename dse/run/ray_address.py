"""The address of a Ray cluster: whether it is one, and whether anybody answers there.

Where nobody does, Ray 2.60 itself tries for 80 s and then ends the process without a word; where something else
answers, for minutes.
"""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from dse.errors import CannotRun, Fault, InputError

PATIENCE = 5.0
"""Seconds to wait for an answer: three tries of TCP, which sends its first packet again after 1 and 3 s (RFC 6298)."""

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2, and so of gRPC, begins: its preface and empty settings (RFC 9113, 3.4)."""

FRAME, SETTINGS = 9, 4
"""Bytes of the head of a frame, of which the fourth is its type; the server's first frame has its settings."""

WORDS = ("auto", "local")
"""Addresses that Ray resolves itself: the cluster of this machine or of RAY_ADDRESS; one of its own."""


def check_address(address: str) -> None:
    """Refuse what cannot be the address of a cluster.

    Raises:
        InputError: neither `HOST:PORT` nor `ray://HOST:PORT` nor a word that Ray knows.
    """
    if address not in WORDS and _endpoint(address) is None:
        raise InputError(Fault(f"expected HOST:PORT, ray://HOST:PORT or auto, got {address!r}", "ray-address"))


def reach(address: str) -> None:
    """Knock where Ray would connect.

    Raises:
        CannotRun: nobody answers there, or something that is no cluster, or `auto` finds none.
    """
    # What `auto`, RAY_ADDRESS and localhost (to Ray, the machine's own address) mean, only Ray knows.
    from ray._private.services import canonicalize_bootstrap_address

    try:
        direct = address if address.startswith("ray://") else canonicalize_bootstrap_address(address)
        if direct is None:  # one of its own
            return
        endpoint = _endpoint(direct)
        if endpoint is None:
            raise ValueError(f"RAY_ADDRESS: expected HOST:PORT, got {direct!r}")
        with socket.create_connection(endpoint, PATIENCE) as door:
            encrypted = os.environ.get("RAY_USE_TLS", "0") in ("1", "true")  # then a certificate has to come first
            if not encrypted and not _speaks_grpc(door):
                raise ConnectionError("what answers there is no cluster of Ray")
    except (OSError, ValueError) as error:  # ConnectionError of Ray is an OSError without a number
        reason = getattr(error, "strerror", None) or str(error).partition(". ")[0]
        raise CannotRun(f"Ray cannot reach {address}: {reason}; is the cluster running?") from None


def _speaks_grpc(door: socket.socket) -> bool:
    """Whether a server of gRPC is behind a connection."""
    answer = b""
    try:
        door.sendall(HELLO)
        while len(answer) < FRAME and (more := door.recv(FRAME - len(answer))):
            answer += more
    except (TimeoutError, ConnectionError):
        return False
    return len(answer) == FRAME and answer[3] == SETTINGS


def _endpoint(address: str) -> tuple[str, int] | None:
    """Host and port; None where there are not exactly these two."""
    try:
        words = urlsplit(address if "//" in address else f"//{address}")
        host, port = words.hostname, words.port
    except ValueError:  # a port that is no number, or beyond 65535
        return None
    plain = f"{'ray://' if words.scheme else '//'}{words.netloc}"
    if words.scheme not in ("", "ray") or words.geturl() != plain or "@" in words.netloc:
        return None
    return (host, port) if host and port else None
