"""Units for systemd: a service and a socket, each a template whose instance is a daemon's name.

The copies in `systemd/` at the root are what this gives for a system-wide program; a test keeps
them the same. Each setting of the service that is not plain says why, for whoever reads it where
it is installed.
"""

import re
from pathlib import Path
from typing import NamedTuple

from pagesoak.base.errors import InputError

SERVICE = "pagesoak@.service"
SOCKET = "pagesoak@.socket"
MARK = "# Made by `pagesoak systemd install`"
"""First line of each: a file that begins with it may be replaced."""
SYSTEM_PROGRAM = "/usr/bin/pagesoak"
"""Of the copies in the repository."""
GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
"""What systemd takes for the name of a group."""
HOMES = frozenset({"home", "root"})
"""Folders at the root that ProtectHome=yes hides."""
TEMPORARY = (("tmp",), ("var", "tmp"))
"""Folders in whose place PrivateTmp=yes puts others."""


class Wanted(NamedTuple):
    """What the units are for: the program with what leads to it, as an argument vector; who may
    talk to the daemon besides its owner; and whether they are a user's own.
    """

    program: tuple[str, ...]
    group: str | None = None
    user: bool = False


def units(wanted: Wanted) -> dict[str, str]:
    """The text of each unit, by file name; InputError for a group or program that cannot be."""
    if wanted.group is not None and not GROUP.fullmatch(wanted.group):
        raise InputError(f"{wanted.group!r} is no name of a group", key="group")
    command = " ".join(map(quoted, wanted.program))
    if wanted.user:
        return {SERVICE: _USER_SERVICE.format(mark=MARK, command=command), SOCKET: _socket(wanted)}
    hidden = "read-only" if any(map(_in_a_home, wanted.program)) else "yes"
    service = _SERVICE.format(mark=MARK, command=command, protect_home=hidden)
    return {SERVICE: service, SOCKET: _socket(wanted)}


def _in_a_home(path: str) -> bool:
    return path.startswith("/") and not HOMES.isdisjoint(Path(path).parts[1:2])


def is_temporary(path: str) -> bool:
    """Whether a program lies where the service cannot see it."""
    parts = Path(path).parts[1:]
    return any(parts[: len(place)] == place for place in TEMPORARY)


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it back; InputError for what cannot be one."""
    if not word.isprintable():
        raise InputError(f"{word!r} cannot stand in a unit", key="program")
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if re.search(r"[\s'\"\\;]", plain) else plain


def _socket(wanted: Wanted) -> str:
    group = f"SocketGroup={wanted.group}\n" if wanted.group else ""
    target = "sockets.target"
    return _SOCKET.format(mark=MARK, group=group, target=target)


_SERVICE = """\
{mark}: a daemon named %i, for the whole machine.
#
# Configuration: /etc/pagesoak/%i/daemon.toml, if it is there. Results: /var/lib/pagesoak/%i.

[Unit]
Description=pagesoak soaks (%i)
After=pagesoak@%i.socket

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} serve
ExecReload=kill -HUP $MAINPID
# Fed only while the workers of all runs get on. Longer than a stuck worker takes to be fenced.
WatchdogSec=120
# SIGTERM lets the daemon end its runs in order, within 15 seconds; what is left then is killed.
KillMode=mixed
TimeoutStopSec=20
# The first start may have a core to compile; the daemon itself is ready in a second.
TimeoutStartSec=60
Restart=on-failure
RestartSec=5

# Runners let themselves be killed first (+300 on top of this); losing one is no reason to stop.
OOMScoreAdjust=-200
OOMPolicy=continue
# The RAM of all guests is charged to this service: only you know how much that may be. A guest
# that would not fit is refused. In a drop-in (`systemctl edit`):
#MemoryMax=8G
TasksMax=1024
LimitNOFILE=8192
# A core dump would hold guest RAM and the page's token; a broken run keeps its own evidence.
LimitCORE=0

# One user for all instances, so that they share the compiled core.
DynamicUser=yes
User=pagesoak
UMask=0077
StateDirectory=pagesoak/%i
StateDirectoryMode=0700
RuntimeDirectory=pagesoak/%i
RuntimeDirectoryMode=0750
ConfigurationDirectory=pagesoak/%i
CacheDirectory=pagesoak
Environment=XDG_CACHE_HOME=%C

# No MemoryDenyWriteExecute: the compiled core is machine code that Numba maps.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=yes
PrivateDevices=yes
# Not PrivateUsers: who asks is told by the user, and some orders are for some users only.
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# Not ProcSubset=pid: how much memory there is stands in /proc/meminfo.
ProtectProc=invisible
KeyringMode=private
LockPersonality=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# TCP for metrics only, and only with this machine itself.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressDeny=any
IPAddressAllow=localhost
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
Also=pagesoak@%i.socket
"""

_USER_SERVICE = """\
{mark}: a daemon named %i, for one user.
#
# Configuration: ~/.config/pagesoak/%i/daemon.toml, if it is there. Results: below ~/.local/state.

[Unit]
Description=pagesoak soaks (%i)
After=pagesoak@%i.socket

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} serve
ExecReload=kill -HUP $MAINPID
WatchdogSec=120
KillMode=mixed
TimeoutStopSec=20
TimeoutStartSec=60
Restart=on-failure
RestartSec=5
OOMPolicy=continue
#MemoryMax=8G
TasksMax=1024
LimitNOFILE=8192
LimitCORE=0
UMask=0077
StateDirectory=pagesoak/%i
RuntimeDirectory=pagesoak/%i
ConfigurationDirectory=pagesoak/%i
# No MemoryDenyWriteExecute: the compiled core is machine code that Numba maps.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
Also=pagesoak@%i.socket
"""

_SOCKET = """\
{mark}: where the daemon named %i is asked.
#
# PAGESOAK_SOCKET=%t/pagesoak/%i.sock leads `pagesoak list` and the others there.

[Unit]
Description=pagesoak control (%i)

[Socket]
ListenStream=%t/pagesoak/%i.sock
SocketMode=0660
DirectoryMode=0755
{group}
[Install]
WantedBy={target}
"""
