#!/bin/bash
# Everything about cnnscope on a CUDA device, in a folder: bash tests/benchmarks/cuda.sh OUT [SECTION...]
# The first half needs no quiet device and runs side by side; what is timed runs alone.
set -uo pipefail
out=$1
shift
sections=${*:-tests memory lacks disturbed context matrix agreement launches ceilings compiled power}
cd "$(dirname "$0")/../.."
mkdir -p "$out/cuda"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$out/cache}
begin=$SECONDS
wants() { [[ " $sections " == *" $1 "* ]]; }
keep() { tar -czf "$out/cuda.tar.gz" -C "$out" cuda; }
trap keep EXIT

if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,mig.mode.current --format=csv
fi
python3 -c 'import sys, torch, torchvision; print(sys.version.split()[0], torch.__version__, torchvision.__version__)'
if wants tests; then
  timeout 200 python3 -m pytest -q -n 8 -p no:cacheprovider -m 'not slow and not timed' \
    tests/timing tests/tracing tests/analysis/test_memory.py >"$out/cuda/tests.log" 2>&1 &
fi
if wants memory; then
  timeout 240 python3 tests/benchmarks/cuda_memory.py "$out/cuda/memory.json" \
    --device "${DEVICE:-cuda}" --seconds "${MEMORY_SECONDS:-100}" >"$out/cuda/memory.log" 2>&1 &
fi
for section in lacks disturbed; do
  wants "$section" || continue
  timeout 240 python3 tests/benchmarks/on_cuda.py "$section" "$out/cuda/$section.json" \
    --device "${DEVICE:-cuda:0}" >"$out/cuda/$section.log" 2>&1 &
done
wait
echo "side by side: $((SECONDS - begin)) s"
alone() {  # a section, by the command that it is
  wants "$1" || return 0
  echo "=== $1, at $((SECONDS - begin)) s"
  timeout "${LIMIT:-120}" python3 "tests/benchmarks/$2" "${@:3}" --device "${DEVICE:-cuda:0}" >"$out/cuda/$1.log" 2>&1
  echo "exit $?"
}
for section in context launches ceilings compiled matrix; do
  alone "$section" on_cuda.py "$section" "$out/cuda/$section.json" --scale "${SCALE:-1}"
done
alone agreement bench_agrees.py resnet18 vit_b_16 --turns 8 --batch-size 64
alone power bench_power.py --runs "${RUNS:-50}" --seconds 0.3 --calibrate 1 --batch-size 64 --input 224
wants tests && tail -3 "$out/cuda/tests.log"
for log in "$out"/cuda/*.log; do
  echo "=== $(basename "$log")"
  tail -n "${LINES_SHOWN:-12}" "$log" | cut -c1-260
done
echo "all: $((SECONDS - begin)) s"
