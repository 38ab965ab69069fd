#!/usr/bin/env bash
# deploy.sh checks what is in deploy: Dockerfiles with hadolint, compose files with compose's own reader (COMPOSE_SPEC), and the Kubernetes manifests
# that kustomize makes against Kubernetes' schemas. KEDA's ScaledObject is in none of them: only its form is checked.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

scripts/python.sh deploy-tools
tools=$build/deploy-tools/bin
failed=0
check() {
    local what=$1
    shift
    if "$@"; then say "$what: ok"; else failed=1; fi
}

check "Dockerfiles" "$tools/hadolint" --ignore DL3008 deploy/docker/Dockerfile deploy/docker/cuda.Dockerfile # Debian's versions move
check "YAML" "$tools/yamllint" -c scripts/yamllint.yaml deploy bench/load .github
# Without the values of variables: compose-go's program does not find them (v2.16.2).
for beside in monitoring loadtest; do
    check "compose, with $beside" "$COMPOSE_SPEC" -no-interpolation deploy/compose/compose.yaml "deploy/compose/$beside.yaml" >"$build/$beside.yaml"
done
if command -v kubectl >/dev/null; then
    for kind in base gpu; do
        kubectl kustomize "deploy/kubernetes/$kind" >"$build/$kind.yaml"
        check "Kubernetes, $kind" "$tools/kubernetes-validate" --strict --quiet -k 1.34 "$build/$kind.yaml"
    done
else
    say "kubectl is not here: Kubernetes manifests are not checked"
fi
exit $failed
