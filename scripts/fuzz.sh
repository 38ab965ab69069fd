#!/usr/bin/env bash
# fuzz.sh runs each fuzz target of the repository for FUZZTIME (60s), one after the other, and prints a line for each. A
# pattern as its argument chooses some by "./folder target". What it finds interesting is kept in FUZZCACHE (.build/fuzz), and
# a later run goes on from there. An input that fails is written to the package's testdata, where it fails every test run
# until the fault is gone. A target that fails lets the others run and makes the script fail at its end.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

time=${FUZZTIME:-60s}
cache=${FUZZCACHE:-$build/fuzz}
pattern=${1:-.}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC1091 # it is made by engine.sh
source "$build/engine/env"

# targets prints "./folder target" for each.
targets() {
    git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' |
        sed -E 's|^([^:]*/)?[^/:]*:func (.*)$|./\1 \2|; s|/ | |' | sort
}

# count prints the last number that follows a word on go's lines of progress, or 0.
count() { sed -nE "s/.*$1 ([0-9]+).*/\1/p" "$log" | tail -n 1 | grep . || echo 0; }

ran=0
failed=0
printf '%-42s %12s %16s %8s\n' target executions 'new interesting' crashes
while read -r package target; do
    ran=$((ran + 1))
    crashes=0
    # One worker leaves the machine usable. By default a minute may go on making one input smaller, which is all of the time here.
    # The flag after -args wins over the one that go sets.
    if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s -parallel 1 "$package" \
        -args "-test.fuzzcachedir=$cache/${package#./}" >"$log" 2>&1 </dev/null; then
        # Go 1.26 now and then reports its own deadline as a failure (go.dev/issue/75804); there is no failing input then.
        if grep -qE '^ +context deadline exceeded$' "$log" && ! grep -q 'Failing input written' "$log"; then
            say "$package $target: ended by go's own deadline"
        else
            crashes=1
            failed=$((failed + 1))
        fi
    fi
    printf '%-42s %12s %16s %8s\n' "${package#./} $target" "$(count execs:)" "$(count 'new interesting:')" "$crashes"
    [ "$crashes" = 0 ] || tail -n 40 "$log" | sed 's/^/    /'
done < <(targets | grep -E -- "$pattern")
[ "$ran" -gt 0 ] || die "no target matches $pattern"
[ "$failed" = 0 ] || die "$failed of $ran targets failed"
