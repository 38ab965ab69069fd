#!/usr/bin/env bash
# prometheus.sh prints the folder that has prometheus and promtool: that of the system's where they are, else .build/prometheus, where it
# unpacks Debian's package. It is not installed, for that would start a server.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

at=$build/prometheus

from_package() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    (cd "$at" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; }) >"$at/log" 2>&1 || return 1
    dpkg-deb -x "$at"/prometheus_*.deb "$at/unpacked" && ln -sf "$at/unpacked/usr/bin/prometheus" "$at/unpacked/usr/bin/promtool" "$at/"
}

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v promtool)"
    exit 0
fi
only_one prometheus
if [ ! -x "$at/promtool" ]; then
    rm -rf "$at" && mkdir -p "$at"
    say "getting Prometheus"
    from_package || die "Prometheus could not be had ($at/log): install prometheus and promtool, and run make again"
fi
echo "$at"
