"""Several processes of one machine keep one registration together: who is the last to leave?

Workers behind one port are one instance. If each of them deregistered it at its end, the service would be gone while
others still serve. So each holds a lock on a file that is named after the registration, shared with the others; who
leaves gives its share back and asks for the whole. Exactly one gets it: the last. The system gives locks back by itself
when a process is killed, and a forked child inherits none.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import IO

from consul_access.rules.handing_over import Rest

__all__ = ["Share"]

log = logging.getLogger("consul_access")

if sys.platform != "win32":
    import fcntl


class Share:
    """One process's share of a registration.

    Args:
        name: the registration's agent and id; the same name is the same registration.
        folder: where the file is; by default the folder for temporary files, which a server's workers have in common.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self._name = name
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._left = self._last = False

    def join(self) -> bool | None:
        """Takes a share.

        Returns:
            Whether others have one, too; None while the last of them is leaving: nothing was taken then.
        """
        try:
            return self._joined()
        except OSError as error:
            self._alone(error)
            return False

    def leave(self) -> bool:
        """Gives the share back; True for the last, who then keeps others out until `close`."""
        if not self._left:
            self._left = True
            self._last = self._is_last()
        return self._last

    def rest(self) -> Rest:
        """What the others do, once this one has left; when they have all gone, it is the last now."""
        if self._last:
            return Rest.GONE
        self._last = self._is_last()
        if self._last:
            return Rest.GONE
        if self._file is None or sys.platform == "win32":
            return Rest.KEEPING
        try:
            fcntl.lockf(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Rest.ENDING
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        return Rest.KEEPING

    def close(self) -> None:
        """The end: leaves, if that was not done, and lets others in."""
        last = self.leave()
        file, self._file = self._file, None
        if file is None:
            return
        if last and _is_at(file, file.name):
            with contextlib.suppress(OSError):  # an empty file that the system cleans away one day
                Path(file.name).unlink()
        file.close()

    def _joined(self) -> bool | None:
        if sys.platform == "win32":  # it has no such locks: each process counts as the last
            return False
        while True:
            file = self._opened()
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                others = True
            else:
                others = False
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
            if _is_at(file, file.name):
                self._file = file
                return others
            file.close()  # the last one has removed it meanwhile

    def _opened(self) -> IO[bytes]:
        name = f"consul-access-{os.getuid()}-{hashlib.sha256(self._name.encode()).hexdigest()[:24]}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # nobody else's link is followed
        path = str(self._where() / name)
        return open(path, "r+b", buffering=0, opener=lambda path, _: os.open(path, flags, 0o600))

    def _where(self) -> Path:
        if self._folder is None:
            import tempfile

            self._folder = Path(tempfile.gettempdir())
        return self._folder

    def _is_last(self) -> bool:
        if self._file is None or sys.platform == "win32":
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            self._alone(error)
        return True

    def _alone(self, error: OSError) -> None:
        log.warning(
            "whether other processes keep %s too cannot be told (%s): it is deregistered when this one ends, and "
            "restored by the others within 5 s",
            self._name,
            error,
        )


def _is_at(file: IO[bytes], path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))  # noqa: PTH116
    except FileNotFoundError:
        return False
