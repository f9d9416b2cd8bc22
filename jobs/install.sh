#!/usr/bin/env bash
# Make .venv and install vsp into it with the tested versions; does nothing where that is done.
#   bash jobs/install.sh [test]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra="${1:-}"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "install.sh: $("$python" --version) is too old; set PYTHON to a Python from 3.10 on" >&2
    exit 1
}
stamp=".venv/installed${extra:+-$extra}"
wanted="$(cat setup.cfg pyproject.toml jobs/constraints.txt | sha256sum)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing into .venv; this takes some minutes where nothing is cached" >&2
# torch first: its version decides what everything else may bring along.
.venv/bin/python -m pip install --quiet --constraint jobs/constraints.txt torch
.venv/bin/python -m pip install --quiet --constraint jobs/constraints.txt --editable ".${extra:+[$extra]}"
echo "$wanted" >"$stamp"
