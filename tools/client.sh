#!/bin/sh
# Prints the Python that has the real client (memorygraphmcp 0.12.4), or nothing where it is not installed.
set -eu
[ -n "${MEMMIG_CLIENT_PYTHON:-}" ] && { printf '%s\n' "$MEMMIG_CLIENT_PYTHON"; exit 0; }
python=${MEMMIG_VENV:-.venv}/client/bin/python
"$python" -c 'import memorygraph' >/dev/null 2>&1 || exit 0
case $python in /*) printf '%s\n' "$python" ;; *) printf '%s/%s\n' "$(pwd)" "$python" ;; esac
