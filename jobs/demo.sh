#!/usr/bin/env bash
# The whole pipeline on this machine: a small trained LLaVA, two synthetic worlds and two controls.
#   bash jobs/demo.sh                 # pictures of shapes on white
#   bash jobs/demo.sh --photos DIR    # the shapes lie on your own photographs
# The first call makes .venv. A later call removes the runs demo-* and data/raw/demo-photos of an
# earlier one and makes them again.
set -euo pipefail
photos=""
if [ $# -gt 0 ]; then
    if [ $# -ne 2 ] || [ "$1" != --photos ]; then
        echo "demo.sh: use bash jobs/demo.sh [--photos DIR]" >&2
        exit 2
    fi
    if [ ! -d "$2" ] || [ -z "$(ls -- "$2")" ]; then
        echo "demo.sh: $2: no such folder, or an empty one; name a folder of photographs" >&2
        exit 2
    fi
    photos="$(CDPATH="" cd -- "$2" && pwd)"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/install.sh
export PATH="$PWD/.venv/bin:$PATH"
started=$SECONDS
mkdir -p results/demo

# run NAME DATASET [options of vsp probe]: plan, extract and probe.
run() {
    local name="$1" dataset="$2"
    shift 2
    echo
    echo "== $name =="
    rm -rf "scratch/$name" "results/$name"
    vsp plan --model small --dataset "$dataset" --run "$name" --lens
    vsp extract --run "$name"
    vsp probe --run "$name" "$@"
}

# sentence NAME: what the report of a run says first.
sentence() {
    vsp report --run "demo-$1" --json |
        python -P -c 'import json, sys; print(f"{sys.argv[1]:>8}:", json.load(sys.stdin)["answer"])' "$1"
}

if [ -n "$photos" ]; then
    # The same scenes as without photographs.
    config=data/demo-photos.yaml
    mkdir -p data
    sed -e 's|^output:.*|output: data/raw/demo-photos|' -e '/^photos:/d' \
        configs/demo_dataset.yaml >"$config"
    python -P -c 'import sys, yaml; print(yaml.safe_dump({"photos": sys.argv[1]}))' "$photos" >>"$config"
    rm -rf data/raw/demo-photos
    vsp generate --config "$config"
    run demo-photos data/raw/demo-photos
    vsp report --run demo-photos
    echo
    sentence photos
    echo "This model has seen shapes on white only. A model that knows photographs needs its real"
    echo "checkpoint: vsp plan --model llava15 --checkpoint DIR"
    echo "demo: $((SECONDS - started)) s after the install"
    exit
fi

vsp generate --config demo
vsp generate --config color
for variant in mirrored blank; do
    vsp generate --of data/raw/demo --variant "$variant" --out "data/raw/demo-$variant"
done

run demo-color data/raw/color
run demo-mirrored data/raw/demo-mirrored
run demo-blank data/raw/demo-blank
run demo-spatial data/raw/demo

echo
vsp compare demo-spatial demo-mirrored demo-blank --plot results/demo/spatial.png >results/demo/compare.txt
vsp report --run demo-color --plot results/demo/color.png >results/demo/color.txt
vsp report --run demo-spatial
echo
for name in spatial mirrored blank; do
    sentence "$name"
done
echo "Expected: the relation is found where the model sees the picture, and nowhere on grey pictures."
echo "The picture is results/demo/spatial.png; docs/tutorial.md reads it slowly."
echo "demo: $((SECONDS - started)) s after the install"
