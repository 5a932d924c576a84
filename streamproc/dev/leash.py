"""Runs a command that ends when its parent does: `python leash.py PARENT_PID COMMAND…`.

The kernel's PR_SET_PDEATHSIG (prctl(2)) survives execve, so this sets it and becomes the command. Done here
and not between fork and exec, where only async-signal-safe calls are allowed. Other systems than Linux have
none: there, a command outlives a parent killed with SIGKILL, and the next `dev` says which port is taken.
"""

import os
import signal
import sys

#: From linux/prctl.h.
PR_SET_PDEATHSIG = 1


def leash(parent: int) -> None:
    """Have this process killed when process `parent` ends; ends at once where it has already ended."""
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415  # only here, and it costs 10 ms

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    leash(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # the command is the project's own
