#!/usr/bin/env bash
# One round of the ring by hand, without DVC and without people: every verb, one after the other.
# Usage: examples/01_ring_by_hand.sh NEW_FOLDER   (with .venv/bin on PATH)
set -euo pipefail
folder=$1
keys=$(mktemp -d)/keys
visionloop init --recipe solar "$folder"
visionloop keys new "$keys"
export VISIONLOOP_SIGNING_KEY="$keys/signing-key.pem" VISIONLOOP_TRUSTED_KEYS="$keys/signing-key.pub.pem"
cd "$folder"

visionloop data import          # images by content hash, metadata, experts' annotations
visionloop data check           # the contract; exit 3 if it is broken
visionloop train backbone       # the frozen network, exported once
visionloop data embed           # features of every sample
visionloop data split           # groups never cross splits
visionloop data freeze          # a fingerprinted dataset version
visionloop train train          # logged in MLflow
visionloop train export         # ONNX, parity, signed package
visionloop evaluate evaluate    # the package, not the checkpoint
visionloop evaluate robustness  # darkness, blur, noise, occlusion
visionloop evaluate gate        # targets.yaml; exit 3 if refused
visionloop evaluate promote     # challenger, champion
visionloop serve build          # FP16, TensorRT where it is installed
visionloop watch --once         # the signed release
