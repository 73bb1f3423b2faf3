#!/bin/bash
# renew   the agent dies (kill -9) at each system call of a certificate renewal that touches a file or the network, is started
# again, and must end with a whole pair that the hub knows; what was sent to it arrives. Hub and agent are processes of the real
# program, strace kills. CASE='rename 2' is one case. OMSAGENT_TEST_BINARY names the program (dist/omsagent), else a debug build.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
logs=${SWEEP_LOGS:-$PWD/target/test-logs/sweep}; mkdir -p "$logs"
export OMSAGENT_RENEW_POINTS=${CASE:-all}
cargo test --locked --test agent renewal::killed -- --nocapture >"$logs/renew.log" 2>&1; rc=$?
grep -E '^FAIL' "$logs/renew.log"
said=$(sed -n 's/^sweep renew: //p' "$logs/renew.log")
[ -n "$said" ] || { tail -n 20 "$logs/renew.log"; said='did not finish'; rc=1; }
echo "sweep renew agent: $said"
[ $rc = 0 ] && echo 'renew agent: 1 passed, 0 failed' || echo 'renew agent: 0 passed, 1 failed'
exit $rc
