#!/usr/bin/env bash
# Install what the tests need, Slurm included, and run all of them: lint, types, tests.
#   bash tests/run.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With its accounting: slurmdbd and a database.
slurm="slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server"
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] && ! dpkg -s $slurm >/dev/null 2>&1; then
    echo "installing Slurm for the tests" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq $slurm >/dev/null ||
        echo "Slurm could not be installed; its tests will say so" >&2
fi
bash jobs/install.sh test
export PATH="$PWD/.venv/bin:$PATH"

ruff check vsp tests
ruff format --check vsp tests
mypy
# Tests of a cluster mostly wait: a file at a time for each of three processes, of one thread each.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" pytest -n 3 --dist loadfile "$@"
