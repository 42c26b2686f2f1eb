#!/usr/bin/env bash
# Every check that needs a GPU, in at most 8 minutes: benchmarks/gpu/run.sh [--dry-run] [--minutes 8] [--only CHECK ...]
#
# Needs no network and installs nothing for good. PYTHON (python3) brings torch; what else is missing is taken from the
# wheels in WHEELS (./wheels), where a wheel may lie in pieces: NAME.whl.part0, NAME.whl.part1, ...
# Writes OUT (benchmarks/gpu/results.json), a file or a folder.
set -euo pipefail
wheels=$(realpath -m "${WHEELS:-wheels}")
out=$(realpath -m "${OUT:-$(dirname "$0")/results.json}")
python=${PYTHON:-python3}
cd "$(dirname "$0")/../.."
root=$PWD
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir "$site/wheels" "$site/packages"

for first in "$wheels"/*.whl.part0; do
    [ -e "$first" ] || continue
    ls -v "${first%0}"* | xargs cat >"$site/wheels/$(basename "${first%.part0}")"
done
for wheel in "$wheels"/*.whl "$site"/wheels/*.whl; do
    [ -e "$wheel" ] || continue
    # One by one: a wheel for another Python must not keep the others away.
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --upgrade \
        --target "$site/packages" "$wheel" || echo "not installed: $wheel" >&2
done

export PYTHONPATH="$site/packages:$root/backends:$root/predictors:$root${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}" PYTHONUNBUFFERED=1
"$python" -m benchmarks.gpu.distribution "$site/packages"
"$python" -m benchmarks.gpu --out "$out" "$@"
