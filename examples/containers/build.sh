#!/bin/sh
# Builds the images of these examples: web, db, worker, checked. Needs Docker (DOCKER_HOST says which) and a static
# busybox (Debian: apt-get install busybox-static; BUSYBOX says where). No registry is asked.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
busybox=${BUSYBOX:-$(command -v busybox)}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here/Dockerfile" "$here/run.sh" "$context"
cp -r "$here/web" "$context/web"
cp "$busybox" "$context/busybox"
for image in ${*:-web db worker checked}; do
    DOCKER_BUILDKIT=0 docker build --quiet --network none --target "$image" --tag "hale-example/$image:1" "$context"
done
