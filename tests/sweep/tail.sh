#!/bin/bash
# tail [LINES [KILLS]]   numbered lines (a million) in four files that are renamed, copied and cut, deleted and made anew, and led to by a
# link that is switched, while the agent is killed (-9) at random (100 times) and started again: none may be lost. Then what copying and
# cutting loses under a writer that does not wait: what stands in a file must have arrived. The agent is a process of the real program:
# OMSAGENT_TEST_BINARY names it (dist/omsagent), else a debug build.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
logs=${SWEEP_LOGS:-$PWD/target/test-logs/sweep}; mkdir -p "$logs"
export OMSAGENT_TAIL_LINES=${1:-1000000} OMSAGENT_TAIL_KILLS=${2:-100}
cargo test --locked --test agent -- --nocapture --test-threads 1 tail::killed tail::what_copying >"$logs/tail.log" 2>&1; rc=$?
said=$(grep -oE 'tail: [0-9].*' "$logs/tail.log" | sed 's/^tail: //' | paste -sd';' | sed 's/;/; /g')
[ -n "$said" ] || { tail -n 20 "$logs/tail.log"; said='did not finish'; rc=1; }
echo "sweep tail agent: $said"
[ $rc = 0 ] && echo 'tail agent: 1 passed, 0 failed' || echo 'tail agent: 0 passed, 1 failed'
exit $rc
