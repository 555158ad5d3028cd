#!/bin/sh
# Usage: tools/servers.sh COMMAND…    (from the top of the checkout)
# Starts the test servers of compose.yaml, runs the command with the variables that name them, and stops them again.
set -eu

die() { printf 'test-servers: %s\n' "$1" >&2; exit 1; }
reason=
command -v docker >/dev/null 2>&1 || reason="docker is not installed"
[ -n "$reason" ] || docker compose version >/dev/null 2>&1 || reason="docker has no compose plugin"
[ -n "$reason" ] || docker info >/dev/null 2>&1 || reason="no Docker daemon answers"
[ -z "$reason" ] || die "$reason; name servers of your own instead: \
MEMMIG_TEST_MEMGRAPH_URI=bolt://HOST:PORT make test (they are emptied!)"

# compose reads every service's variables; the servers with passwords are not started here.
MEMMIG_SERVERS_PASSWORD=unused
export MEMMIG_SERVERS_PASSWORD
stop() { docker compose --profile test rm --stop --force --volumes memgraph-test-1 memgraph-test-2 >/dev/null 2>&1 || :; }
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
docker compose --profile test up --wait --quiet-pull memgraph-test-1 memgraph-test-2 ||
    die "the servers did not start: docker compose --profile test logs"
MEMMIG_TEST_MEMGRAPH_URI=bolt://127.0.0.1:17687
MEMMIG_TEST_MEMGRAPH_SECOND_URI=bolt://127.0.0.1:17688
export MEMMIG_TEST_MEMGRAPH_URI MEMMIG_TEST_MEMGRAPH_SECOND_URI
"$@"
