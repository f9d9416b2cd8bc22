#!/usr/bin/env bash
# From nothing to probe curves on this machine: a small untrained LLaVA reads two synthetic worlds.
#   bash jobs/demo.sh
# Makes .venv on the first run. Run again, it plans new runs beside the old ones.
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
echo "The model is untrained. Expect the probe at chance where the answer takes understanding (the"
echo "relation of two shapes) and above it where it lies open in the pixels (a colour), but never in"
echo "layer 0: the embedding of the last prompt token, which no picture has reached."
echo "demo: $((SECONDS - started)) s after the install"
