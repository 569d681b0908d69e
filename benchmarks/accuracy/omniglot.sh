#!/usr/bin/env bash
# Learners by gradient beside ProtoNets and Simple CNAPs, on characters of unseen alphabets.
#
#     benchmarks/accuracy/omniglot.sh TRAIN TEST FOLDER
#
# TRAIN and TEST are folders with one folder of images a character, of different alphabets; models go
# to FOLDER, and one that is there is not trained again. Two set-ups on Conv-4 at 28 px, with quarter
# turns as classes of their own: "means", heads that begin at class means, one model for all ways,
# from supervised weights; and "5" and "20", the papers', a head learned for so many ways, everything
# from random weights, 1-shot tasks. Prints JSON for each way and shots.
set -euo pipefail
train=$1 test=$2 out=$3
mkdir -p "$out"
name=$(basename "$train")

train() { # train NAME FLAGS...
  local file="$out/$1.safetensors"
  shift
  [ -f "$file" ] || fewshot-lite meta-train "$train" -o "$file" --rotate "$name" --no-flip "$name" \
    --image-size 28 --no-augment --shifts 0 --h all --tasks-per-step 2 "$@" >&2
}

[ -f "$out/conv4.safetensors" ] || fewshot-lite pretrain "$train" -o "$out/conv4.safetensors" \
  --backbone conv4 --image-size 28 --min-image-size 28 --no-flip "$name" >&2

means=(--weights "$out/conv4.safetensors" --min-way 5 --max-way 20 --max-shot 5 --max-support 60
  --queries 3 --tasks 300 --lr 1e-3)
for learner in fomaml maml; do
  train "$learner-means" --learner "$learner" --inner-steps 5 --inner-lr 0.05 --statistics support "${means[@]}"
done
train imaml-means --learner imaml --inner-steps 16 --inner-lr 0.05 --statistics support "${means[@]}"
for learner in protonets simple-cnaps; do
  train "$learner-means" --learner "$learner" --backbone-lr 1 "${means[@]}"
done
for way in 5 20; do
  papers=(--backbone conv4 --weights none --shot 1 --inner-head learned --lr 2e-3 --min-way "$way"
    --max-way "$way" --queries $((way == 5 ? 5 : 2)) --tasks $((way == 5 ? 1000 : 500)))
  for learner in fomaml maml; do
    train "$learner-$way" --learner "$learner" --inner-steps 5 --inner-lr 0.2 "${papers[@]}"
  done
  for curvature in hessian gauss-newton; do
    train "imaml-$curvature-$way" --learner imaml --inner-steps 16 --inner-lr 0.03 --curvature "$curvature" \
      "${papers[@]}"
  done
  fewshot-lite evaluate "$out"/*-means.safetensors "$out"/*-"$way".safetensors "$test" --ways "$way" \
    --shots 1,5 --queries 5 --tasks 600 --json
done
