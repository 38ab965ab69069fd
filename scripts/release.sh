#!/usr/bin/env bash
# release.sh packs what make portable and make sbom have made, for those who do not build.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

version=$(git describe --tags --always --dirty)
name=steno-$version-linux-amd64
out=$build/release
rm -rf "$out" && mkdir -p "$out/$name"
cp bin/steno-portable "$out/$name/steno"
scripts/onnxruntime.sh "$out/$name/libonnxruntime.so" # found beside the program
cp LICENSE README.md CHANGELOG.md "$out/$name/"
cp -r deploy/systemd deploy/monitoring "$out/$name/"
cp "$build/sbom.json" "$out/$name.cdx.json"
# The same tree gives the same bytes.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -C "$out" -cf - "$name" | gzip -n >"$out/$name.tar.gz"
rm -r "${out:?}/$name"
(cd "$out" && sha256sum ./*.tar.gz ./*.json >SHA256SUMS)
say "$out: $(cd "$out" && echo *)"
