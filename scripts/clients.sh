#!/usr/bin/env bash
# clients.sh makes .build/clients, an environment of its own with the HTTP clients that tests use, as clients.txt pins them; nothing
# is done where it is there.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

env=$build/clients

scripts/tools.sh venv
only_one clients
want=$({ cat scripts/clients.txt; python3 --version; echo "$env"; } | sha256sum | cut -c1-16)
if [ "$(cat "$env/key" 2>/dev/null)" != "$want" ]; then
    say "installing OpenAI's client and schemathesis into .build/clients"
    rm -rf "$env"
    python3 -m venv "$env"
    "$env/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r scripts/clients.txt ||
        die "the clients could not be installed: check the network and run make again."
    echo "$want" >"$env/key"
fi
