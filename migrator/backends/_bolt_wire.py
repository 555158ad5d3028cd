"""A driver, its transactions, and its errors translated. Each statement is sent once: no retry of the driver's is used.

Every statement but DDL goes through an explicit transaction, for the driver runs the others again by itself.
"""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

from migrator.backends._bolt_values import readers
from migrator.errors import MemmigError, OutcomeUnknown, StoreRefused, StoreUnreachable, TargetFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from neo4j import Driver, Session, Transaction

    from migrator.model import Value

CONNECT_SECONDS = 10.0
_SNIFF_SECONDS = 2.0
#: Bolt's magic number and the versions 5.0 to 5.4.
_HANDSHAKE = bytes.fromhex("6060b017 00040405 00000000 00000000 00000000")
#: Records that the driver holds ready of a streamed answer.
_FETCH = 500
#: Bytes that are read from a connection at once.
_PIECE = 1 << 16


class Conflict(Exception):
    """The server refused a transaction because of what others wrote; nothing of it stays."""


class AlreadyThere(Exception):
    """The server refused to make an index or constraint that it has."""


class ServerSaid(MemmigError):
    """An answer that no rule below knows: a bug here, or a server that differs."""


def new_driver(uri: str, user: str, password: str) -> Driver:
    """Return a driver that connects when it is first used, never retries, and says nothing by itself."""
    import neo4j

    logging.getLogger("neo4j").addHandler(logging.NullHandler())
    options: dict[str, Any] = {
        "auth": (user, password) if user or password else None,
        "user_agent": "memmig",
        "telemetry_disabled": True,
        "connection_timeout": CONNECT_SECONDS,
        "connection_acquisition_timeout": 2 * CONNECT_SECONDS,
        "max_transaction_retry_time": 0,
        "notifications_min_severity": "OFF",
        "fetch_size": _FETCH,
        # 6.4 runs auto-commit statements again unless told not to; older ones do not know the option.
        "disable_auto_commit_retries": True,
    }
    try:
        return neo4j.GraphDatabase.driver(uri, **options)
    except neo4j.exceptions.ConfigurationError:
        del options["disable_auto_commit_retries"]
        return neo4j.GraphDatabase.driver(uri, **options)


class _Pieces:
    """A connection's socket for the driver's reader, which asks for each record in two calls; read in large pieces.

    [measured: 10 µs of the processor instead of 15 for a record]. What is left over is always the answer's own rest.
    """

    def __init__(self, socket: Any) -> None:  # noqa: ANN401 - the driver's own class, which it does not name
        self._socket = socket
        self._left = memoryview(b"")

    def recv_into(self, buffer: memoryview, nbytes: int) -> int:
        """Fill the buffer with what is there, up to ``nbytes``; 0 where the other end closed."""
        if not self._left:
            self._left = memoryview(self._socket.recv(_PIECE))
        some = self._left[:nbytes]
        buffer[: len(some)] = some
        self._left = self._left[nbytes:]
        return len(some)


class Transact:
    """An explicit transaction in which statements run one after the other, each answer read to its end."""

    def __init__(self, transaction: Transaction, wire: Wire) -> None:
        self._transaction = transaction
        self._wire = wire

    def run(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[list[Value]]:
        """Run one statement and return its rows."""
        with self._wire.translated():
            return self._transaction.run(query, dict(parameters or {})).values()

    def stream(self, query: str) -> Iterator[list[Value]]:
        """Run one statement and yield its rows; nothing else may run before the last one."""
        # What a consumer raises does not come through here, so every error in this block is the driver's.
        with self._wire.translated():
            for row in self._transaction.run(query):
                yield row.values()

    def summary(self, query: str) -> dict[str, Any]:
        """Run one statement and return what the server tells beside the answer."""
        with self._wire.translated():
            return dict(self._transaction.run(query).consume().metadata)

    def commit(self) -> None:
        """Commit. OutcomeUnknown unless the server says that it did, or that it did not."""
        with self._wire.translated(commits=True):
            self._transaction.commit()


class Wire:
    """One database of one server. Each thread has a session of its own; one thread at a time writes."""

    def __init__(self, driver: Driver, *, database: str | None, place: str, timeout: float, writes: bool) -> None:
        self._driver = driver
        self._database = database
        self._place = place
        self._timeout = timeout
        self._writes = writes
        self._writer: int | None = None  #: the thread that writes now
        self._sessions: dict[int, Session] = {}

    # --- requests ---

    def read(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[list[Value]]:
        """Run one reading statement and return its rows."""
        with self.transaction() as transaction:
            return transaction.run(query, parameters)

    def stream(self, query: str) -> Iterator[list[Value]]:
        """Run one reading statement over a connection of its own and yield its rows; memory stays bounded."""
        session = self._new_session()
        try:
            with self._begun(session) as transaction:
                yield from transaction.stream(query)
        finally:
            with suppress(Exception):
                session.close()

    @contextmanager
    def transaction(self) -> Iterator[Transact]:
        """Begin a transaction, which is rolled back where it was not committed: errors of one that reads."""
        session = self._sessions.get(get_ident())
        if session is None:
            session = self._sessions[get_ident()] = self._new_session()
        with self._begun(session) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transact]:
        """Begin a transaction that writes: a lost connection is OutcomeUnknown as soon as it has begun."""
        with self.transaction() as transaction:
            self._writer = get_ident()
            try:
                yield transaction
            finally:
                self._writer = None

    def auto(self, query: str, *, writes: bool) -> list[list[Value]]:
        """Run one statement that the server takes outside transactions only; sent once, as all."""
        session = self._new_session()
        try:
            with self.translated():
                connected = session.begin_transaction()
                self._prepare(connected)
                connected.rollback()
            self._writer = get_ident() if writes else None
            with self.translated():
                return session.run(query).values()
        finally:
            self._writer = None
            with suppress(Exception):
                session.close()

    def summary(self, query: str) -> dict[str, Any]:
        """Run one reading statement and return what the server tells beside the answer."""
        with self.transaction() as transaction:
            return transaction.summary(query)

    def close(self) -> None:
        """Disconnect. Never raises."""
        for session in self._sessions.values():
            with suppress(Exception):
                session.close()
        with suppress(Exception):
            self._driver.close()

    def _new_session(self) -> Session:
        import neo4j

        mode = neo4j.WRITE_ACCESS if self._writes else neo4j.READ_ACCESS
        return self._driver.session(database=self._database, default_access_mode=mode)

    @contextmanager
    def _begun(self, session: Session) -> Iterator[Transact]:
        with self.translated():
            transaction = session.begin_transaction()
        try:
            self._prepare(transaction)
            yield Transact(transaction, self)
        finally:
            with suppress(Exception):
                transaction.close()

    def _prepare(self, transaction: Transaction) -> None:
        """Set what the driver has no option for: how long to wait, natives to the last byte, large pieces."""
        connection = transaction._connection  # noqa: SLF001
        connection.socket.set_read_timeout(self._timeout)
        inbox = connection.inbox
        if type(getattr(inbox, "_socket", None)) is type(connection.socket):
            inbox._socket = _Pieces(inbox._socket)  # noqa: SLF001
        handler = connection.hydration_handler
        if b"I" in handler.struct_hydration_functions and not hasattr(handler, "_memmig"):
            handler.struct_hydration_functions = {**handler.struct_hydration_functions, **readers()}
            handler._memmig = True  # noqa: SLF001

    def _writes_now(self) -> bool:
        return self._writer == get_ident()

    # --- errors ---

    @contextmanager
    def translated(self, *, commits: bool = False) -> Iterator[None]:
        """Turn the driver's errors into memmig's."""
        from neo4j import exceptions

        try:
            yield
        except exceptions.AuthError as error:
            raise self._no_sign_in(_said(error)) from error
        except exceptions.Neo4jError as error:
            raise self._translated(error.code or "", _said(error), commits=commits) from error
        except exceptions.DriverError as error:
            raise self._lost(error) from error
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> MemmigError:
        said = _said(error)
        if self._writes_now():
            message = f"{self._place} did not answer: {said}"
            return OutcomeUnknown(message, hint="resume the run: it finds out what has landed")
        message = f"{self._place} cannot be reached: {said}"
        return StoreUnreachable(message, hint="is the server running there?")

    def _translated(self, code: str, said: str, *, commits: bool) -> Exception:
        if "EquivalentSchemaRuleAlreadyExists" in code:
            return AlreadyThere(said)
        # Neo4j's messages may quote a record; its codes say enough, but for two. Memgraph's codes are nearly all one.
        vague = "ExecutionFailed" in code or "ConstraintCreationFailed" in code
        text = "" if code.startswith("Neo.") and not vague else said.lower()
        for codes, words, kind, message, hint in _RULES:
            if any(one in code for one in codes) or any(one in text for one in words):
                if kind is None:
                    return Conflict(said)
                if message == _NO_SIGN_IN:
                    return self._no_sign_in(said)
                if kind is TargetFull and not self._writes_now():
                    return StoreUnreachable(f"{self._place} {message}: {said}", hint="raise the server's limits")
                return kind(f"{self._place} {message}: {said}", hint=hint)
        if commits:
            return OutcomeUnknown(f"{self._place} could not say whether it committed: {said}")
        return ServerSaid(f"{self._place}: {said}", hint="report this with the version of the server")

    def _no_sign_in(self, said: str) -> StoreUnreachable:
        if "expired" in said.lower():
            return StoreUnreachable(f"{self._place}: the password has expired", hint="set a new password first")
        return StoreUnreachable(f"{self._place} refuses to sign in", hint="give the right user and password")


_NO_SIGN_IN = "refuses to sign in"
#: What a code holds, what a message holds in small letters, error (None = Conflict), message, hint. The first match.
_RULES: tuple[tuple[tuple[str, ...], tuple[str, ...], type[MemmigError] | None, str, str], ...] = (
    (
        ("Security.Forbidden",),
        ("not authorized", "not allowed for user", "you are not allowed"),
        StoreRefused,
        "does not let this user",
        "grant it what the message names",
    ),
    ((".Security.",), ("authentication failure",), StoreUnreachable, _NO_SIGN_IN, ""),
    (
        ("DatabaseNotFound",),
        ("unknown database",),
        StoreUnreachable,
        "has no such database",
        "give the right one in the URL",
    ),
    (("DatabaseUnavailable",), (), StoreUnreachable, "is not available", "start the database"),
    (
        ("ReadOnly", "NotALeader"),
        ("on the replica", "on replica"),
        StoreRefused,
        "cannot be written",
        "give the address of a database that can",
    ),
    (
        ("OutOfMemory", "Terminated", "TimedOut", "StackOverFlow"),
        ("memory limit", "timeout"),
        TargetFull,
        "gave a request up",
        "try a smaller --batch-size, or raise the server's limits",
    ),
    (
        (),
        ("too large to index",),
        StoreRefused,
        "has an index that a value does not fit",
        "shorten the value, or drop that index",
    ),
    (
        (
            "ConstraintValidation",
            "ConstraintCreationFailed",
            "AlreadyExists",
            "Deadlock",
            "Transaction.Outdated",
            "LockClientStopped",
        ),
        (
            "unique constraint",
            "conflicting transactions",
            "access to the storage",
            "shared access",
            "existing connections",
        ),
        None,
        "",
        "",
    ),
)


def speaks_otherwise(host: str, port: int) -> bool:
    """Tell whether what listens there answers, but not in Bolt: the driver says no more than "unavailable" of it.

    Begins as Bolt does; a server of lines (Redis) takes that for a line without end, and is silent: then with a line.
    """
    for words in (_HANDSHAKE, b"PING\r\n"):
        try:
            with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as probe:
                probe.settimeout(_SNIFF_SECONDS)
                probe.sendall(words)
                answer = probe.recv(4)
        except TimeoutError:
            continue
        except OSError:
            return False
        return bool(answer) and not answer.startswith(b"\0")
    return False


def _said(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error)
    return " ".join(str(text).split())[:300] or type(error).__name__
