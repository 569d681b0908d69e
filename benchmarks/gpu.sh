#!/usr/bin/env bash
# What a GPU does with it, in about ten minutes, from a bare checkout on a machine that has torch and
# torchvision, without a network:
#
#     benchmarks/gpu.sh [FOLDER]          # results as JSON in FOLDER, gpu-results unless given
#     benchmarks/gpu.sh --trial [FOLDER]  # tiny, on the CPU: tries the script out, figures mean nothing
#
# The tests marked "cuda"; a LITE step of Simple CNAPs at 224 px, 50 ways, 500 queries, H = 40,
# against N from 100 to 10,000 in float32 and bfloat16 (memory, seconds, share of the floor), beside
# back-propagation through the whole task until memory ends; adapting and classifying.
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
  step=(--device cpu --backbones resnet18 --image-size 32 --way 3 --queries 6 --h 4 --repeats 1)
  sizes=6,12
  full=6
  limit=1200
  throughput=(--device cpu --base random:resnet18 --image-size 32 --photos 8 --repeats 1)
else
  python -c 'import torch; assert torch.cuda.is_available(), "there is no CUDA device here"'
  step=(--device cuda --backbones efficientnet_lite0,efficientnet_b0 --way 50 --queries 500 --h 40)
  sizes=100,200,500,1000,10000
  full=100,200,500,1000,10000
  limit=240
  throughput=(--device cuda --base random:efficientnet_lite0 --shots 5,20,200 --photos 4096)
fi

failed=0
run() { # run NAME COMMAND...: a part that fails does not take the others with it
  local name=$1
  shift
  echo "== $name ($(date +%T))"
  timeout "$limit" "$@" >"$out/$name" 2>"$out/$name.log" || { echo "failed: $name"; tail -3 "$out/$name.log"; failed=1; }
}
if python -c 'import pytest' 2>/dev/null; then
  run tests.txt python -m pytest -q -m cuda tests/test_cuda.py
else
  echo "no pytest here: the tests marked cuda are left out"
fi
run step.json python -m benchmarks.cost.lite_step "${step[@]}" --sizes "$sizes" \
  --precisions float32,bfloat16
run full.json python -m benchmarks.cost.lite_step "${step[@]}" --sizes "$full" --modes full \
  --precisions float32 --repeats 0
run throughput.json python -m benchmarks.cost.throughput "${throughput[@]}"
echo "results: $out"
exit "$failed"
