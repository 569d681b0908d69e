#!/usr/bin/env bash
# What a GPU does with it, in about ten minutes, from a bare checkout on a machine that has torch and
# torchvision, without a network:
#
#     benchmarks/gpu.sh [FOLDER]          # results as JSON in FOLDER, gpu-results unless given
#     benchmarks/gpu.sh --trial [FOLDER]  # tiny, on the CPU: tries the script out, figures mean nothing
#
# The tests marked "cuda"; a LITE step of Simple CNAPs at 224 px, 50 ways, 500 queries, H = 40,
# against N from 100 to 10,000 in float32 and bfloat16 (memory, seconds, ratio to its floor), beside
# back-propagation through the whole task until memory ends; the step of the published LITE code
# beside ours; the step at N = 200 with and without torch.compile, which is not tried out; adapting
# and classifying. Each part has a time limit; its file has what was measured by then.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=src:.

trial=
if [ "${1:-}" = --trial ]; then
  trial=yes
  shift
fi
out=${1:-gpu-results}
mkdir -p "$out"

if [ -n "$trial" ]; then
  export OMP_NUM_THREADS=1
  patience=5 # on a busy machine
  step=(--device cpu --image-size 32 --way 3 --queries 6 --h 4 --repeats 1)
  both=(--backbones resnet18 --sizes 6,12)
  published=(--backbones resnet18 --sizes 6)
  throughput=(--device cpu --base random:resnet18 --image-size 32 --photos 8 --repeats 1)
else
  patience=1
  python -c 'import torch; assert torch.cuda.is_available(), "there is no CUDA device here"'
  step=(--device cuda --way 50 --queries 500 --h 40)
  both=(--backbones efficientnet_lite0,efficientnet_b0 --sizes 100,200,500,1000,10000)
  published=(--backbones efficientnet_b0 --sizes 100,500,1000 --film-layers depthwise --repeats 1)
  throughput=(--device cuda --base random:efficientnet_lite0 --shots 5,20,200 --photos 4096)
fi

failed=0
run() { # run SECONDS NAME COMMAND...: a part that fails does not take the others with it
  local limit=$(($1 * patience)) name=$2
  shift 2
  echo "== $name ($(date +%T))"
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || { echo "failed: $name"; tail -3 "$out/$name.log"; failed=1; }
}
measure() { # measure SECONDS NAME COMMAND...: one whose rows are kept as JSON as they come
  run "$@" --keep "$out/$2.json"
}
if python -c 'import pytest' 2>/dev/null; then
  run 60 tests python -m pytest -q -o addopts=--import-mode=importlib -m cuda tests/test_cuda.py
else
  echo "no pytest here: the tests marked cuda are left out"
fi
measure 300 step python -m benchmarks.cost.lite_step "${step[@]}" "${both[@]}" \
  --precisions float32,bfloat16
measure 60 full python -m benchmarks.cost.lite_step "${step[@]}" "${both[@]}" --modes full \
  --precisions float32 --repeats 0
measure 120 published python -m benchmarks.cost.lite_step "${step[@]}" "${published[@]}" \
  --modes lite,published --precisions float32
if [ -n "$trial" ]; then
  echo "compiled: left out of a trial, as compiling takes minutes on a CPU"
else
  measure 180 compiled python -m benchmarks.cost.lite_step "${step[@]}" \
    --backbones efficientnet_lite0,efficientnet_b0 --sizes 200 --precisions float32,bfloat16 \
    --compiled no,yes
fi
measure 60 throughput python -m benchmarks.cost.throughput "${throughput[@]}"
echo "results: $out"
exit "$failed"
