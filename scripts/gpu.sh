#!/usr/bin/env bash
# All that is to be seen on a machine with a GPU, in at most nine minutes, without a network:
#
#     bash scripts/gpu.sh [DATA] [CHECKPOINT]
#
# The tests that use a GPU, the speed of the components with MiniLM and with a network of the size of BERT base, and,
# if DATA (with conll04/ and kbp37/) and the folder of a checkpoint of that size are given, a training on each.
# Results go to docs/results/gpu.jsonl, or to the folder OUT. GPU_DEVICE=cpu LIMIT=8 tries it out.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python} device=${GPU_DEVICE:-cuda} limit=${LIMIT:-1024} out=${OUT:-docs/results}
data=${1:-} checkpoint=${2:-}
export HF_HUB_OFFLINE=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
end=$((SECONDS + 540))
mkdir -p "$out"

step() {
    local left=$((end - SECONDS))
    ((left > 15)) || { echo "No time left for: $*"; return; }
    echo "+ $*"
    timeout "$left" "$@" || echo "Failed, or out of time: $*"
}

step "$python" -m pytest -q tests/test_devices.py tests/contract/test_settings.py
step "$python" benchmarks/gpu.py --device "$device" --precisions bfloat16 --limit "$limit" --rounds 3 \
    --output "$out/gpu.jsonl"
if [[ -n $data && -n $checkpoint ]]; then
    for benchmark in conll04 kbp37; do
        step "$python" "benchmarks/$benchmark.py" --data "$data/$benchmark" --variants "base size" --seeds 1 \
            --epochs 3 --checkpoint "$checkpoint" --device "$device" --output "$out/$benchmark.jsonl"
    done
fi
