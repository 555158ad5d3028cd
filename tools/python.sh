#!/bin/sh
# Prints the path of a Python >= 3.12 that can make virtual environments; otherwise says in one line what is missing.
# MEMMIG_PYTHON names one to use instead of searching.
set -eu

# Version managers leave commands on the PATH that only say "not active", and Debian's python3 may come without
# ensurepip: so every candidate is tried, and asked for its real path.
try() {
    found=$("$1" -c 'import sys, venv, ensurepip
if sys.version_info >= (3, 12): print(sys.executable)' 2>/dev/null) || return 1
    [ -n "$found" ] || return 1
    printf '%s\n' "$found"
    exit 0
}

if [ -n "${MEMMIG_PYTHON:-}" ]; then
    try "$MEMMIG_PYTHON" || {
        echo "memmig: MEMMIG_PYTHON=$MEMMIG_PYTHON is not a Python >= 3.12 with venv and ensurepip" >&2
        exit 1
    }
fi
for name in python3.14 python3.13 python3.12 python3; do
    try "$name" || :
done
if command -v uv >/dev/null 2>&1; then
    uv_python=$(uv python find --no-python-downloads '>=3.12' 2>/dev/null) && try "$uv_python" || :
fi
# Oldest first: 3.12 is what the tests run on everywhere.
for version in 3.12 3.13 3.14; do
    for root in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv" /opt/pyenv /usr/local/pyenv; do
        [ -n "$root" ] || continue
        for candidate in "$root"/versions/"$version"*/bin/python; do
            [ -x "$candidate" ] && try "$candidate" || :
        done
    done
done
echo "memmig: no Python >= 3.12 with venv found: install one (Debian: apt install python3 python3-venv; or: uv python install 3.12; pyenv install 3.12), or set MEMMIG_PYTHON" >&2
exit 1
