#!/usr/bin/env bash
# The search under ThreadSanitizer: fails on a report, and fails where a race that is planted goes unreported.
# CC chooses the compiler (gcc or clang); without ThreadSanitizer's library it says so and fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
compile() { # compile NAME FLAGS...
    local name=$1
    shift
    ${CC:-gcc} -std=c11 -g -O1 -fsanitize=thread -fno-omit-frame-pointer -ffp-contract=off -Wall -Wno-psabi \
        -Wno-unused-function "$@" -I"$root/envs/include" -I"$root/envs/games" -I"$root/mcts/tree" \
        "$here/driver.c" -o "$out/$name" -lm -pthread
}
# Older runtimes cannot place their shadow memory where addresses are randomised widely.
fixed=()
if setarch "$(uname -m)" -R true 2>/dev/null; then fixed=(setarch "$(uname -m)" -R); fi
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}"

compile planted -DPLANTED_RACE
code=0
"${fixed[@]}" "$out/planted" >"$out/report" 2>&1 || code=$?
if [ "$code" != 66 ] || ! grep -q "data race" "$out/report"; then
    echo "the planted race was not reported (exit status $code):"
    cat "$out/report"
    exit 1
fi
compile driver
"${fixed[@]}" "$out/driver"
