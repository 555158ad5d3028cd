"""Reads a large source in a process of its own, so that decoding and digests use a second processor.

The source is opened there once more. What may be believed of it where the reader fails is the backend's to say: SQLite
reads on by itself from where the reader ended, as both see one snapshot; a server's answer has no order to go on in.
Frames on the reader's output: 4 bytes of length, then the ``marshal`` of a page, an empty one at the end of a scan, or
what a memmig error says. What to open is written to its input, never to its command line. It ends when its input does.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import pickle
import signal
import subprocess
import sys
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from migrator import errors
from migrator.backends.base import Digested
from migrator.model import Corrupt, Memory, Relationship, digest, with_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrator.backends.base import Access, StoreInfo
    from migrator.model import Kind, Record

#: What a frame holds of each record.
type Wanted = Literal["records", "records and digests", "digests"]

#: Records from which on a second process is worth its start.
WORTH_IT = 20_000
#: Records in a frame: about as many as the pipe holds, so that the reader is one frame ahead.
_FRAME = 500
_PIPE_BYTES = 1 << 20
_BOOT = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from migrator.backends._reader import serve; serve()"
)


class ReaderLostError(Exception):
    """The reader died, or what it says makes no sense; its cause is a MemmigError where it told of one."""


class Readable(Protocol):
    """What the reader opens: a backend."""

    def open(self, access: Access) -> StoreInfo:
        """See :class:`~migrator.backends.base.Backend`."""

    def shows(self, signature: object) -> bool:
        """Begin to read anew, and tell whether that shows what the parent sees, which has this signature."""

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """See :class:`~migrator.backends.base.Backend`."""


class Reader:
    """The parent's side: one process, started at once, asked for one scan after the other."""

    def __init__(self, make: Callable[[], Readable]) -> None:
        """Start it. ``make`` is pickled. ReaderLostError where this interpreter cannot be started."""
        # -P: nothing of the working folder is imported before the path is set.
        command = [sys.executable, "-P", "-c", _BOOT]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a constant program
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise ReaderLostError from error
        self._widen()
        try:
            self._send(sys.path)
            self._send(make)
        except ReaderLostError:
            self.close()
            raise

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - asked for as a pipe
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - asked for as a pipe
        return self._process.stdout

    def _widen(self) -> None:
        # Only Linux can; elsewhere, or beyond the user's limit, the reader waits a little more often.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._output.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _send(self, message: object) -> None:
        try:
            pickle.dump(message, self._input)
            self._input.flush()
        except OSError as error:
            raise ReaderLostError from error

    def scan(self, kind: Kind, signature: object, *, digests: bool) -> Iterator[list[Record | Corrupt]]:
        """Yield a whole kind as ``scan`` of the backend does, each record with its digest where ``digests`` says so.

        ``signature``: of what the parent sees; the reader refuses to read anything else. Raises ReaderLostError.
        One scan must be read to its end before the next begins.
        """
        self._send((kind, signature, "records and digests" if digests else "records"))
        while rows := self._frame():
            yield [_record(kind, row) for row in rows]

    def scan_digests(self, kind: Kind, signature: object) -> Iterator[list[Digested]]:
        """Yield a whole kind as ``scan_digests`` of the backend does, without the records; else as :meth:`scan`."""
        self._send((kind, signature, "digests"))
        while rows := self._frame():
            yield [
                Digested(name, known, None if kind is None else Relationship(name, kind, start, end, {}), None)
                for name, known, kind, start, end in rows
                if known is not None
            ]

    def _frame(self) -> list[tuple[Any, ...]]:
        try:
            head = self._output.read(4)
            size = int.from_bytes(head)
            body = self._output.read(size)
            if len(head) < 4 or len(body) < size:  # noqa: PLR2004 - the width of the length
                raise ReaderLostError
            found: list[tuple[Any, ...]] | tuple[str, str, str] = marshal.loads(body)  # noqa: S302 - our own process
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise ReaderLostError from error
        if isinstance(found, tuple):
            name, message, hint = found
            raise ReaderLostError from getattr(errors, name)(message, hint=hint)
        return found

    def close(self) -> None:
        """End the process. Idempotent; never raises."""
        self._process.kill()
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()


def _record(kind: Kind, row: tuple[Any, ...]) -> Record | Corrupt:
    if row[0] is None:
        return Corrupt(kind=kind, id=row[1], reason=row[2], raw=row[3], named=row[4])
    if kind == "memory":
        return with_digest(Memory(row[1], row[2], row[3]), row[0])
    return with_digest(Relationship(row[1], row[2], row[3], row[4], row[5]), row[0])


def _no_digest(item: Record) -> str:  # noqa: ARG001 - in the place of ``digest``
    return ""


def _row(item: Record | Corrupt, digest_of: Callable[[Record], str]) -> tuple[Any, ...]:
    if isinstance(item, Corrupt):
        return None, item.id, item.reason, item.raw, item.named
    if isinstance(item, Memory):
        return digest_of(item), item.id, item.labels, item.properties
    return digest_of(item), item.id, item.type, item.from_id, item.to_id, item.properties


def _digest_row(item: Record | Corrupt) -> tuple[Any, ...]:
    if isinstance(item, Corrupt):
        return item.id, None, None, None, None
    if isinstance(item, Memory):
        return item.id, digest(item), None, None, None
    return item.id, digest(item), item.type, item.from_id, item.to_id


_ROWS: dict[Wanted, Callable[[Record | Corrupt], tuple[Any, ...]]] = {
    "records": partial(_row, digest_of=_no_digest),
    "records and digests": partial(_row, digest_of=digest),
    "digests": _digest_row,
}


def serve() -> None:
    """Answer the parent until its end closes. The program of the reader's process."""
    # These go to the whole group: the parent finishes its batch, for which it may need the next page.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    given, wanted = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            backend: Readable = pickle.load(given)()  # noqa: S301 - written by our own parent
            backend.open("read")
            while True:
                kind, signature, wanted_rows = pickle.load(given)  # noqa: S301 - the same
                if not backend.shows(signature):
                    return
                for page in backend.scan(kind, _FRAME):
                    _put(wanted, [_ROWS[wanted_rows](item) for item in page])
                _put(wanted, [])
        except errors.MemmigError as error:
            _put(wanted, (type(error).__name__, error.message, error.hint))


def _put(wanted: IO[bytes], found: list[tuple[Any, ...]] | tuple[str, str, str]) -> None:
    body = marshal.dumps(found)
    wanted.write(len(body).to_bytes(4))
    wanted.write(body)
    wanted.flush()
