#!/usr/bin/env bash
# A study on this machine: a small trained LLaVA, a synthetic world, four controls, a verdict, an intervention
# and a page.
#   bash jobs/demo.sh                 # pictures of shapes on white
#   bash jobs/demo.sh --photos DIR    # the shapes lie on your own photographs
# The first call makes .venv. A later call removes the runs, the study and data/raw/demo-photos of an
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

# run NAME DATASET: plan, extract and probe.
run() {
    local name="$1" dataset="$2"
    echo
    echo "== $name =="
    rm -rf "scratch/$name" "results/$name"
    vsp plan --model small --dataset "$dataset" --run "$name" --lens
    vsp extract --run "$name"
    vsp probe --run "$name"
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
    echo "This model has seen shapes on white only. A model that knows photographs needs its real"
    echo "checkpoint: vsp plan --model llava15 --checkpoint DIR"
    echo "demo: $((SECONDS - started)) s after the install"
    exit
fi

vsp generate --config demo
vsp generate --config color
run demo-color data/raw/color
vsp report --run demo-color --plot results/demo/color.png >results/demo/color.txt

echo
echo "== study demo =="
for role in original original-steer blank mirrored swapped untrained; do
    rm -rf "scratch/demo-$role" "results/demo-$role"
done
rm -f studies/demo.yaml
vsp study --model small --dataset data/raw/demo --name demo --with blank,mirrored,swapped,untrained \
    --question "Does the small model see how two shapes lie?" --lens --submit --profile jobs/local.yaml
echo
echo "== does it use what the probe reads? =="
vsp steer demo-original --layers 1-6 --scale 1 2 --rows 40
vsp extract --run demo-original-steer
vsp effects demo-original-steer --plot results/demo/steer.png
vsp report --study demo --save >/dev/null
vsp compare demo-original demo-mirrored demo-blank --plot results/demo/spatial.png >results/demo/compare.txt

echo
echo "Expected: grounded. The relation is read where the model sees the picture, and nowhere on grey pictures."
echo "Used: its direction moves the answers more than random ones at layers 3-6."
echo "The page is results/demo/report.html: open it in a browser, or type \`vsp view\`."
echo "docs/tutorial.md reads the curve slowly."
echo "demo: $((SECONDS - started)) s after the install"
