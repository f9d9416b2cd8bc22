#!/usr/bin/env bash
# The whole pipeline on this machine: a small untrained LLaVA on two synthetic worlds.
#   bash jobs/demo.sh
# The first call makes .venv. Each further call plans new runs; the old ones stay.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/install.sh
export PATH="$PWD/.venv/bin:$PATH"
started=$SECONDS

checkpoint=data/small-llava
[ -f "$checkpoint/config.json" ] || python -m vsp.demo_checkpoint "$checkpoint"

for task in spatial color; do
    echo
    echo "== $task =="
    vsp generate --config "configs/${task}_dataset.yaml"
    vsp plan --model llava15 --checkpoint "$checkpoint" --quantization none --dataset "data/raw/$task"
    vsp extract
    vsp probe
    vsp report --plot "results/demo/$task.png"
done

echo
echo "The model is untrained. Expect the probe at chance for the relation of two shapes, which has to"
echo "be understood, and above chance for a colour, which is visible in the pixels. Layer 0 is always"
echo "at chance: it is the embedding of the last prompt token and has not seen the picture."
echo "demo: $((SECONDS - started)) s after the install"
