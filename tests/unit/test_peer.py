"""Who asks, and who may have something ended."""

import os
import socket

import pytest

from pagesoak.daemon.peer import Peer, check_authority, peer_of
from pagesoak.daemon.problem import ProblemError

OTHER = os.geteuid() + 4242


def test_a_unix_socket_says_who_is_at_its_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid())


def test_a_tcp_socket_does_not_say() -> None:
    with socket.socket(socket.AF_INET) as connected:
        assert peer_of(connected) is None


@pytest.mark.parametrize("uid", [0, os.geteuid(), OTHER])
def test_root_the_daemon_and_the_owner_may_end_a_run(uid: int) -> None:
    check_authority(Peer(1, uid, 1), OTHER, "one")


@pytest.mark.parametrize("peer", [None, Peer(1, OTHER + 1, 0)])
@pytest.mark.parametrize("owner", [None, OTHER])
def test_nobody_else_may(peer: Peer | None, owner: int | None) -> None:
    with pytest.raises(ProblemError) as refused:
        check_authority(peer, owner, "one")
    assert refused.value.status == 403
