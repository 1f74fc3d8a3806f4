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

train() {  # CONFIG FORMAT DATA STEPS
    for part in train dev; do
        step "$python" -m spacy spanrel convert "$2" "$3/$part.json" "$out/$2_$part.spacy"
    done
    step "$python" -m spacy train "configs/$1" --output "$out/$2" --paths.train "$out/$2_train.spacy" \
        --paths.dev "$out/$2_dev.spacy" --paths.encoder "$checkpoint" --schedule.total_steps "$4" \
        --schedule.epochs 0 --training.max_steps "$4" --training.eval_frequency "$4"
    step "$python" -m spacy spanrel evaluate "$out/$2/model-last" "$out/$2_dev.spacy" --output "$out/$2.json"
}

step "$python" -m pytest -q tests/test_devices.py tests/contract/test_settings.py
step "$python" benchmarks/gpu.py --device "$device" --precisions bfloat16 --limit "$limit" --rounds 3 \
    --output "$out/gpu.jsonl"
if [[ -n $data && -n $checkpoint ]]; then
    train span_relation_bert.cfg spert "$data/conll04" 1200
    train relation_classifier_spanbert_base.cfg tacred "$data/kbp37" 1000
fi
