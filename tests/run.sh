#!/usr/bin/env bash
# Install what the tests need, including Slurm, then run lint, type checks and all tests.
#   bash tests/run.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Slurm with accounting: slurmdbd and a database.
slurm="slurm-wlm munge slurmdbd slurm-wlm-mysql-plugin mariadb-server"
# LaTeX with booktabs and siunitx, which compiles the tables of a paper.
latex="texlive-latex-base texlive-latex-recommended texlive-science"
# A browser, which opens the pages of results.
browser="chromium"

# provide NAME PACKAGES [options of apt-get]: install what is missing, as far as this user may.
provide() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 0
    dpkg -s $2 >/dev/null 2>&1 && return 0
    echo "installing $1 for the tests" >&2
    apt-get update -qq && apt-get install -y -qq ${3:-} $2 >/dev/null ||
        echo "$1 could not be installed; its tests will be skipped or fail, with the reason" >&2
}
export DEBIAN_FRONTEND=noninteractive
provide Slurm "$slurm"
provide LaTeX "$latex" --no-install-recommends
provide "a browser" "$browser" --no-install-recommends
bash jobs/install.sh test
export PATH="$PWD/.venv/bin:$PATH"

ruff check vsp tests
ruff format --check vsp tests
mypy
# Cluster tests mostly wait, so three processes run on two cores: one file and one thread each.
# Files start in the order of tests/conftest.py, not those with the most tests first.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" pytest -n 3 --dist loadfile --no-loadscope-reorder "$@"
