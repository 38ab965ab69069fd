#!/usr/bin/env bash
# browser.sh prints where a Chromium is for the tests of the page, and installs one where there is none.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

for name in chromium google-chrome google-chrome-stable chrome; do
    if found=$(command -v "$name"); then
        echo "$found"
        exit
    fi
done
# Ubuntu's package of that name is a snap, which cannot be installed everywhere.
if grep -qs '^ID=debian' /etc/os-release; then
    scripts/tools.sh chromium
    command -v chromium
    exit
fi
export PLAYWRIGHT_BROWSERS_PATH=$build/browsers
scripts/console.sh playwright install --with-deps --no-shell chromium >&2 || die "install Chromium or Google Chrome, and run make again."
find "$build/browsers" -name chrome -type f | head -n 1
