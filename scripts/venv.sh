#!/bin/sh
# Make a virtual environment, even where the distribution ships Python without the venv module's parts.
# usage: venv.sh PYTHON DIR
set -eu
python=$1 dir=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "nightcrew needs Python 3.11 or newer: install it, or name it with 'make PYTHON=/path/to/python3'." >&2
    exit 2
fi
[ -x "$dir/bin/pip" ] && exit 0
rm -rf "$dir"
"$python" -m venv "$dir" >/dev/null 2>&1 && exit 0
rm -rf "$dir"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3-venv, which Debian keeps apart from python3 …" >&2
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    exec "$python" -m venv "$dir"
fi
echo "this Python has no venv module: install it ('apt-get install python3-venv') and run make again." >&2
exit 2
