#!/usr/bin/env bash
# Make the bundles of this folder again from npm, and compare them with SHA256SUMS.
#   bash vsp/web/vendor/make.sh [--write]
# It needs npm and a network. Without --write nothing in the folder changes. With --write, files and
# checksums are replaced: for a new version, change the table below first.
set -euo pipefail
folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
temporary="$(mktemp -d)"
trap 'rm -rf "$temporary"' EXIT

# package, version, SHA-512 of the package in npm, file of the package, name here
table="
vega 6.4.0 rHXCq2LpEWCLMjXBEj7hocY9G0/i5TGYRayGGSj06VTF4+l2IG2Z7oeZKCjWbUh/7hTE/mVhbaOPB72wCElh6g== build/vega.min.js vega.js
vega-lite 6.5.0 fMXF6s0MrIg0UTWnLIfeFtgSLzVhyzSKobzGrh5rhS+mL6FOYFG3m7ouJ4U23gj65EK+gl9FIIT5w7wLNaAzkA== build/vega-lite.min.js vega-lite.js
vega-interpreter 2.3.2 JDAoi3taFcCDLujZG84TNNUXdkAZ5WsSHssx8lWVYaxb9Slsjk7v7PtRIYXpSlUwLaKGRBqoJ9KDs36Z0eMEIw== build/vega-interpreter.js vega-interpreter.js
vega-embed 7.3.0 wQ8s5GaSzqoKgmRfbRolgBrjE2CP7ZKHXqH7NijxMqPjpdWxSs4Dn8tvp9g0giQvh2cK+3p56sxjWWM0wNngGw== build/vega-embed.min.js vega-embed.js
"

# as_script FILE: turn the interpreter's module into a script that adds to the object `vega`.
as_script() {
    sed -i \
        -e "s|^import \(.*\) from 'vega-util';\$|(function () {\nconst \1 = vega;|" \
        -e 's|^export { expression as expressionInterpreter };$|vega.expressionInterpreter = expression;\n})();|' "$1"
    if grep -qE '^(import|export) ' "$1"; then
        echo "vega-interpreter has other imports or exports than this script knows" >&2
        exit 1
    fi
}

mkdir "$temporary/new"
while read -r package version integrity file name; do
    [ -n "$package" ] || continue
    (cd "$temporary" && npm pack --silent "$package@$version" >/dev/null)
    archive="$temporary/$package-$version.tgz"
    found="$(openssl dgst -sha512 -binary "$archive" | base64 -w0)"
    if [ "$found" != "$integrity" ]; then
        echo "$package $version: SHA-512 is $found, not $integrity" >&2
        exit 1
    fi
    mkdir "$temporary/$package"
    tar -xzf "$archive" -C "$temporary/$package" --strip-components 1
    cp "$temporary/$package/$file" "$temporary/new/$name"
    cp "$temporary/$package/LICENSE" "$temporary/new/${name%.js}.LICENSE"
    [ "$package" != vega-interpreter ] || as_script "$temporary/new/$name"
    # Source maps are not shipped.
    sed -i 's|^//# sourceMappingURL=.*$||' "$temporary/new/$name"
done <<<"$table"
cp "$folder/BUNDLED.LICENSES" "$temporary/new/"
chmod 644 "$temporary/new/"*
(cd "$temporary/new" && LC_ALL=C sha256sum * >SHA256SUMS)

if [ "${1:-}" = --write ]; then
    cp "$temporary/new/"* "$folder/"
fi
cmp "$temporary/new/SHA256SUMS" "$folder/SHA256SUMS"
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
echo "the bundles are those of npm"
