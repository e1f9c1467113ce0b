#!/usr/bin/env bash
# Installs the edge agent, and nothing else, into a folder: bash install.sh /opt/visionloop
# Run it in a copy of this repository. Needs Python 3.10 or later and uv.
set -euo pipefail
target=${1:?the folder to install into, for example /opt/visionloop}
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")/../.." && pwd)
uv venv --quiet --python "$python" "$target"
uv pip sync --quiet --python "$target/bin/python" --require-hashes "$here/locks/edge.txt"
uv pip install --quiet --python "$target/bin/python" --no-deps "$here"
"$target/bin/visionloop" serve edge --help > /dev/null
echo "installed into $target: $(du -sm "$target" | cut -f1) MB"
