#!/usr/bin/env bash
# Make .venv and install vsp into it with the tested versions. Does nothing if that is already done.
#   bash jobs/install.sh [test]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra="${1:-}"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "install.sh: $("$python" --version) is too old; set PYTHON to Python 3.11 or newer" >&2
    exit 1
}
stamp=".venv/installed${extra:+-$extra}"
wanted="$(cat setup.cfg pyproject.toml jobs/constraints.txt | sha256sum)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
[ -x .venv/bin/python ] || "$python" -P -m venv .venv
echo "installing into .venv; this takes a few minutes if nothing is cached" >&2
# torch first, because other packages would choose another version of it.
.venv/bin/python -P -m pip install --quiet --constraint jobs/constraints.txt torch
.venv/bin/python -P -m pip install --quiet --constraint jobs/constraints.txt --editable ".${extra:+[$extra]}"
echo "$wanted" >"$stamp"
