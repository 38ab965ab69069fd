#!/usr/bin/env bash
# units.sh checks the systemd units: that systemd understands them, and how much each of them may still do (0 nothing, 10 all).
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

command -v systemd-analyze >/dev/null || { say "systemd-analyze is not here: units are not checked"; exit 0; }
at=$(mktemp -d)
trap 'rm -rf "$at"' EXIT
failed=0
for unit in deploy/systemd/*.service; do
    # The program must be there for systemd, and on this machine it is elsewhere.
    sed "s|/usr/bin/steno|$PWD/bin/steno|" "$unit" >"$at/${unit##*/}"
    said=$(systemd-analyze verify --man=no "$at/${unit##*/}" 2>&1) || failed=1
    [ -z "$said" ] || { say "$unit: $said"; failed=1; }
    systemd-analyze security --offline=yes --no-pager --threshold=25 "$unit" >"$at/said" 2>&1 || { tail -n 1 "$at/said"; failed=1; }
    grep -o 'exposure level.*[0-9]' "$at/said" | sed "s|^|${unit##*/}: |"
done
exit $failed
