#!/usr/bin/env bash
# Everything that needs a GPU, in under ten minutes: facts about the machine, correctness on CUDA, training speed
# beside the peer, and real runs to a score. A part that fails does not keep the others from running.
#
#   scripts/gpu_check.sh [facts] [correctness] [benchmarks] [runs] [compiled]
#
# Without arguments all but the last, which is the benchmarks with a compiled model: some minutes of their own.
#
# Settings, all of them environment variables:
#   DATA=FOLDER     with multi30k_en-de/{train,valid,test2016}.{en,de} and tatoeba_en-de/{train,valid,test}.{en,de};
#                   what is not there is skipped
#   OUT=FOLDER      for the results, at most eight files; scripts/results without
#   WHEELS=FOLDER   packages to use beside those installed, for a machine without network
#   BUDGET=SECONDS  for everything, 570 without; what comes too late is cut off and counts as failed
#   PYTHON=PROGRAM  python3 without; nmt itself need not be installed
#   DEVICE=cpu      tries the script itself without a GPU: tiny models, a few seconds each
#
# Wheels for a machine that has torch, pyarrow, sacrebleu, sentencepiece, tensorboard, pytest and transformers but
# neither Hydra nor datasets (6.7 MB; the last is published as source only and is the same for every machine):
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#       --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d wheels \
#       hydra-core==1.3.8 omegaconf==2.3.1 datasets==5.2.0 dill==0.4.1 multiprocess==0.70.19 zstandard==0.25.0
#   pip wheel --no-deps -w wheels antlr4-python3-runtime==4.9.3
set -uo pipefail

parts=("$@")
((${#parts[@]})) || parts=(facts correctness benchmarks runs)
for part in "${parts[@]}"; do
    case $part in
    facts | correctness | benchmarks | runs | compiled) ;;
    *)
        echo "gpu_check: no part $part; choose of facts, correctness, benchmarks, runs, compiled" >&2
        exit 2
        ;;
    esac
done

ROOT=$(cd "$(dirname "$0")/.." && pwd)
absolute() { case $1 in '' | /*) printf %s "$1" ;; *) printf %s "$PWD/$1" ;; esac; }
DEVICE=${DEVICE:-cuda}
DATA=$(absolute "${DATA:-}")
WHEELS=$(absolute "${WHEELS:-}")
PYTHON=${PYTHON:-python3}
[[ $PYTHON != */* ]] || PYTHON=$(absolute "$PYTHON")
DEADLINE=$((SECONDS + ${BUDGET:-570}))
RESULTS=$(absolute "${OUT:-$ROOT/scripts/results}")
# Prepared data, runs and caches: nothing of them is left behind.
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$RESULTS"
SUMMARY=$RESULTS/gpu-summary.txt
: >"$SUMMARY"
for part in "${parts[@]}"; do
    rm -f "$RESULTS/gpu-$part".*
done
FAILED=0

say() { printf '%s\n' "$*" | tee -a "$SUMMARY"; }

# attempt NAME SECONDS LOG COMMAND...: run within the time that is left, and note how it went.
attempt() {
    local name=$1 limit=$2 log=$3 left=$((DEADLINE - SECONDS)) start=$SECONDS status
    shift 3
    if ((left <= 0)); then
        say "FAILED   $name: no time left of BUDGET"
        FAILED=1
        return 1
    fi
    printf '\n== %s\n' "$name" | tee -a "$log"
    # From the work folder, where runs and prepared data then lie.
    (cd "$WORK" && timeout --kill-after=10 "$((limit < left ? limit : left))" "$@") 2>&1 | tee -a "$log"
    status=${PIPESTATUS[0]}
    case $status in
    0) say "ok       $name, $((SECONDS - start)) s" ;;
    124 | 137) say "FAILED   $name: cut off after $((SECONDS - start)) s" ;;
    *) say "FAILED   $name: exit code $status, see $(basename "$log")" ;;
    esac
    ((status)) && FAILED=1
    return "$status"
}

skip() { say "skipped  $1: $2"; }

install() {
    export PYTHONPATH=$ROOT:$WORK/site PYTHONUNBUFFERED=1 HF_HOME=$WORK/cache HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
    [[ $WHEELS ]] || return 0
    attempt wheels 60 "$RESULTS/gpu-facts.txt" "$PYTHON" -m pip install -q --no-index --no-deps --no-compile \
        --no-cache-dir --target "$WORK/site" "$WHEELS"/*.whl
}

facts() {
    local log=$RESULTS/gpu-facts.txt
    if [[ $DEVICE == cuda ]]; then
        attempt "what the driver says" 20 "$log" nvidia-smi
    fi
    attempt "what torch says" 60 "$log" "$PYTHON" - "$DEVICE" <<'PROGRAM'
import platform, sys, time
import torch
print("python", platform.python_version(), "torch", torch.__version__, "cuda", torch.version.cuda)
if sys.argv[1] == "cuda":
    torch.cuda.init()
    print(torch.cuda.get_device_properties(0))
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    large = torch.randn(1 << 30, device="cuda")
    def seconds(work):
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / 10
    print(f"bfloat16 product {2 * 8192**3 / seconds(lambda: left @ right) / 1e12:.0f} TFLOP/s")
    print(f"copy {2 * large.nbytes / seconds(large.clone) / 1e12:.2f} TB/s, read and written")
PROGRAM
}

correctness() {
    attempt "tests on $DEVICE" 150 "$RESULTS/gpu-correctness.txt" "$PYTHON" -m pytest -q -p no:cacheprovider \
        --rootdir "$ROOT" "$ROOT/tests/training/test_graphs.py" "$ROOT/tests/training/test_cuda.py"
}

OURS=(--windows 4 --seconds 2 --threads 8 --ours bfloat16 --peers)
BOTH=("${OURS[@]}" bfloat16)
LIMIT=75

# bench NAME SETTING...: speed on Multi30k; its figures go to one line of gpu-benchmarks.jsonl.
bench() {
    local name=$1 folder=$DATA/multi30k_en-de
    shift
    attempt "bench $name" "$LIMIT" "$RESULTS/gpu-benchmarks.txt" "$PYTHON" "$ROOT/scripts/bench_train.py" \
        --source "$folder/train.en" --target "$folder/train.de" --device "$DEVICE" --json "$WORK/bench.json" "$@" || return
    "$PYTHON" - "$WORK/bench.json" "$RESULTS/gpu-benchmarks.jsonl" <<'PROGRAM' | tee -a "$SUMMARY"
import json, sys
with open(sys.argv[1]) as file:
    figures = json.load(file)
with open(sys.argv[2], "a") as file:
    print(json.dumps(figures), file=file)
for each in figures["contestants"]:
    print(
        "         {name}: {target_pieces_per_second:,.0f} target pieces/s, {share_of_calibration:.1%} of the"
        " matrix product's FLOP/s, peak {peak_mb:,.0f} MB".format(**each)
    )
PROGRAM
}

benchmarks() {
    if [[ ! -f $DATA/multi30k_en-de/train.en ]]; then
        skip benchmarks "no DATA/multi30k_en-de"
        return
    fi
    if [[ $DEVICE == cpu ]]; then
        bench tiny --model tiny --slots 512 --seconds 0.5 --windows 1 --ours float32 --peers float32
        return
    fi
    bench "iwslt, 4k slots" --model iwslt --slots 4096 "${BOTH[@]}"
    bench "iwslt, 4k slots, no graphs" --model iwslt --slots 4096 "${OURS[@]}" --no-graphs
    bench "iwslt, 25k slots" --model iwslt --slots 25600 "${BOTH[@]}"
    bench "base, 25k slots" --model base --slots 25600 --vocabulary 32000 "${BOTH[@]}"
    bench "big, 25k slots" --model big --slots 25600 --vocabulary 32000 "${BOTH[@]}"
}

compiled() {
    LIMIT=180
    bench "iwslt, 4k slots, compiled" --model iwslt --slots 4096 "${OURS[@]}" --compile
    bench "base, 25k slots, compiled" --model base --slots 25600 --vocabulary 32000 "${OURS[@]}" --compile
    bench "big, 25k slots, compiled" --model big --slots 25600 --vocabulary 32000 "${OURS[@]}" --compile
}

# train EXPERIMENT CORPUS TEST-SET FILE SECONDS SETTING...: a run to its end or its time limit, and its test score.
train() {
    local experiment=$1 folder=$DATA/$2 name=$3 file=$4 limit=$5 part
    shift 5
    if [[ ! -f $folder/train.en ]]; then
        skip "run $experiment" "no DATA/${folder##*/}"
        return
    fi
    local files=("data.test.$name.source=$folder/$file.en" "data.test.$name.target=$folder/$file.de")
    for part in train valid; do
        files+=("data.$part.source=$folder/$part.en" "data.$part.target=$folder/$part.de")
    done
    attempt "run $experiment" "$limit" "$RESULTS/gpu-runs.txt" "$PYTHON" -m nmt train "experiment=$experiment" \
        "${files[@]}" "training.device=$DEVICE" "run.folder=$WORK/$experiment" "$@"
    grep -h "^$name " "$RESULTS/gpu-runs.txt" | tee -a "$SUMMARY"
}

runs() {
    local small=()
    if [[ $DEVICE == cpu ]]; then
        small=(model=tiny tokenizer.vocabulary_size=1000 training.max_steps=2 training.validate_every=2
            training.max_tokens_per_batch=512 training.validation_sentences=4)
    fi
    train multi30k multi30k_en-de test2016 test2016 120 training.max_minutes=1 "${small[@]}"
    train tatoeba tatoeba_en-de tatoeba test 170 training.max_minutes=1.5 "${small[@]}"
    [[ -d $WORK/multi30k || -d $WORK/tatoeba ]] || return 0
    # Everything of the runs but weights.
    (cd "$WORK" && find . -maxdepth 2 \( -name '*.json' -o -name '*.jsonl' -o -name config.yaml \) ! -path './site/*' \
        ! -path './cache/*' -print0 | tar -czf "$RESULTS/gpu-runs.tar.gz" --null -T -)
}

install
for part in "${parts[@]}"; do
    "$part"
done
printf '\n'
cat "$SUMMARY"
exit "$FAILED"
