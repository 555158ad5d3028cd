"""FalkorDB on a server."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from migrator.backends._falkor import FalkorStore
from migrator.backends._falkor_wire import ServerSaid, Wire
from migrator.backends.base import Durability
from migrator.errors import MemmigError, OutcomeUnknown, StoreRefused

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

    from migrator.backends.base import Access, StoreInfo

DEFAULT_PORT = 6379
_CONNECT_SECONDS = 10.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}


class FalkorDBBackend(FalkorStore):
    """:class:`~migrator.backends.base.Backend` over a FalkorDB server."""

    kind = "falkordb"

    def open(self, access: Access) -> StoreInfo:
        """See :class:`~migrator.backends.base.Backend`. One connection, no retries."""
        self.close()
        host = "localhost" if self._config.host.lower() in _LOOPBACK else self._config.host.lower()
        address = f"{host}:{self._config.port or DEFAULT_PORT}"
        place = f"{address}/{self._graph}"
        timeout = self._config.timeout
        wire = Wire(self._connection(), graph=self._graph, place=f"FalkorDB at {place}", timeout=timeout)
        try:
            wire.connect()
            info = self._opened(wire, place=place)
            if access != "read":
                self._check_master(place)
            info = self._with_durability(info)
        except BaseException:
            self.close()
            raise
        return info

    def _with_durability(self, info: StoreInfo) -> StoreInfo:
        if self._server("aof_enabled", "persistence") == "1":
            return replace(info, durability="append-only file")
        with suppress(ServerSaid):
            if not self._wire.command("CONFIG", "GET", "save")[1]:
                warning = "the server keeps nothing by itself (no appendonly, no save): a snapshot is taken at barriers"
                return replace(info, durability="snapshots on demand only", warnings=(*info.warnings, warning))
        return replace(info, durability="snapshots (RDB)")

    def _check_master(self, place: str) -> None:
        if self._server("role", "replication") == "slave":
            message = f"FalkorDB at {place} is a replica"
            raise StoreRefused(message, hint="give the address of its master")

    def _connection(self) -> AbstractConnection:
        from redis.backoff import NoBackoff
        from redis.connection import Connection, SSLConnection
        from redis.retry import Retry

        config = self._config
        options: dict[str, Any] = {
            "host": config.host or "localhost",
            "port": config.port or DEFAULT_PORT,
            "username": config.user or None,
            "password": config.password or None,
            "socket_timeout": min(_CONNECT_SECONDS, config.timeout),
            "socket_connect_timeout": min(_CONNECT_SECONDS, config.timeout),
            # By default redis-py sends ten times; what was sent twice may land twice.
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "decode_responses": True,
            "protocol": 2,
        }
        if config.tls:
            return SSLConnection(**options, ssl_cert_reqs="required", ssl_check_hostname=True)
        return Connection(**options)

    def barrier(self) -> Durability:
        """Wait until the append-only file has it, or else until a snapshot taken from now on has been written."""
        try:
            if self._server("aof_enabled", "persistence") == "1":
                return self._wait_for_log()
            return self._wait_for_snapshot()
        except OutcomeUnknown:
            raise
        except MemmigError as error:
            return Durability(durable=False, evidence={"reason": error.message})

    def _wait_for_log(self) -> Durability:
        # On the connection of the writes: WAITAOF waits for what this client wrote.
        answer = self._wire.command("WAITAOF", 1, 0, int(self._config.timeout * 1000), wait=self._config.timeout + 5)
        evidence = {"how": "WAITAOF", "local": int(answer[0])}
        if int(answer[0]) < 1:
            return Durability(durable=False, evidence={**evidence, "reason": "the append-only file is not synced"})
        return Durability(durable=True, evidence=evidence)

    def _wait_for_snapshot(self) -> Durability:
        until = time.monotonic() + max(self._config.timeout, 60.0)
        self._wait_while_saving(until)  # one that runs already began before our last write
        before = self._server("rdb_saves", "persistence")
        self._wire.command("BGSAVE")
        self._wait_while_saving(until)
        after, status = self._server("rdb_saves", "persistence"), self._server("rdb_last_bgsave_status", "persistence")
        evidence = {"how": "BGSAVE", "status": status, "saved_at": self._server("rdb_last_save_time", "persistence")}
        if status == "ok" and after != before:
            return Durability(durable=True, evidence=evidence)
        return Durability(durable=False, evidence={**evidence, "reason": "the snapshot was not written"})

    def _wait_while_saving(self, until: float) -> None:
        pause = 0.002
        while self._server("rdb_bgsave_in_progress", "persistence") == "1" and time.monotonic() < until:
            time.sleep(pause)
            pause = min(pause * 2, 0.2)
