#!/usr/bin/env bash
# From images to the shipped checkpoint and its twin: bash models/recipe.sh DATA NOVEL OUT
#
# DATA holds one folder per data set, each with one folder per class: tiny-imagenet (the 160 classes
# to train on), caltech101, cards, dtd10, gtsrb, omniglot-small. NOVEL is a folder of Tiny-ImageNet's
# other 40 classes, which the twin never sees. OUT is a folder for what comes out.
# An interrupted run goes on where it was. With a GPU and time, raise --epochs and --tasks.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: bash models/recipe.sh DATA NOVEL OUT" >&2; exit 2; }
data=$1 novel=$2 out=$3
for folder in "$data" "$novel"; do
  [ -d "$folder" ] || { echo "$folder: no such folder" >&2; exit 2; }
done
here=$(dirname "$0")
# On Linux with glibc: large pages and no returning of memory between steps; faster where it was tried.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=-1

run() { # run COMMAND OUTPUT ARGUMENTS...: begin, go on, or leave alone what is finished
  local state=${2%.safetensors}.state.safetensors
  if [ -e "$state" ]; then
    fewshot-lite "$1" "${@:3}" --output "$2" --resume
  elif [ ! -e "$2" ]; then
    fewshot-lite "$1" "${@:3}" --output "$2"
  fi
}

no_flip=(--no-flip cards --no-flip gtsrb --no-flip omniglot-small)

# Five stages, as they came to be: each starts from the weights of the one before, with a learning
# rate of its own. With time to spare, one run of many epochs will do as well or better.
run pretrain "$out/backbone-1.safetensors" "$data" --backbone resnet18 --image-size 96 \
  --min-image-size 64 --epochs 14 --leave-out 0.125 "${no_flip[@]}"
run pretrain "$out/backbone-2.safetensors" "$data" --weights "$out/backbone-1.safetensors" \
  --image-size 80 --min-image-size 80 --epochs 3 --lr 0.06 --leave-out 0.125 --seed 1 \
  "${no_flip[@]}"
run pretrain "$out/backbone-3.safetensors" "$data" --weights "$out/backbone-2.safetensors" \
  --image-size 128 --min-image-size 64 --mixed-sizes --epochs 7 --lr 0.05 --leave-out 0.125 \
  --seed 2 "${no_flip[@]}"
run pretrain "$out/backbone-4.safetensors" "$data" --weights "$out/backbone-3.safetensors" \
  --image-size 96 --min-image-size 64 --mixed-sizes --epochs 12 --lr 0.05 --leave-out 0.125 \
  --seed 4 "${no_flip[@]}"
[ -e "$out/backbone-twin.safetensors" ] || python "$here/average.py" "$out/backbone-3.safetensors" \
  "$out/backbone-4.safetensors" "$data" --weight-of-b 0.7 --output "$out/backbone-twin.safetensors"
# The twin ends here. What ships is trained on the other 40 classes as well, once nothing is left to
# be chosen by them.
python "$here/last_stage.py" "$out/backbone-twin.safetensors" "$data" "$out/last" \
  --more "tiny-imagenet=$novel"
run pretrain "$out/backbone-5.safetensors" "$out/last" --weights "$out/backbone-twin.safetensors" \
  --image-size 96 --min-image-size 64 --mixed-sizes --epochs 9 --lr 0.05 --seed 5 "${no_flip[@]}"
[ -e "$out/backbone.safetensors" ] || python "$here/average.py" "$out/backbone-twin.safetensors" \
  "$out/backbone-5.safetensors" "$out/last" --weight-of-b 0.7 --output "$out/backbone.safetensors"

# Tasks come from the data sets with enough classes left out, photos two times in three: with
# characters, cards and signs in the majority, FiLM learned to help those and to harm photos.
mkdir -p "$out/tasks"
for name in tiny-imagenet caltech101 omniglot-small; do
  ln -sfn "$(cd "$data/$name" && pwd)" "$out/tasks/$name"
done
train=("$out/tasks" --unseen-only --no-flip omniglot-small --image-size 128 --scales 1,2
  --pooling max --tasks 240 --tasks-per-step 4 --max-way 15 --max-support 60 --queries 4
  --sampling informed --h 20 --penalty 0.03)
run meta-train "$out/twin.safetensors" "${train[@]}" --weights "$out/backbone-twin.safetensors"
run meta-train "$out/simple-cnaps-resnet18.safetensors" "${train[@]}" \
  --weights "$out/backbone.safetensors"
