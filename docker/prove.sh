#!/usr/bin/env bash
# Build the image and run it as docker/Dockerfile promises: as a user without rights, on a root file
# system that is read-only, until it is ready and answers. For machines without a docker engine.
#
#   usage: docker/prove.sh [BUILDAH OPTIONS ...]     such as --build-arg TORCH_INDEX=URL
#
# Needs root, buildah, and debootstrap where the base image cannot be pulled: Debian's own
# Python of the same series then stands in for it.
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER="${STORAGE_DRIVER:-overlay}"
image=avgzsl:proof
work=$(mktemp -d)
container=
server=
finish() {
  status=$?
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  if [ -n "$container" ]; then buildah umount "$container" >/dev/null; buildah rm "$container" >/dev/null; fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

base="docker.io/library/python:$(sed -n 's/^ARG PYTHON=//p' docker/Dockerfile)"
if ! buildah inspect --type image "$base" >/dev/null 2>&1 && ! buildah pull -q "$base" 2>/dev/null; then
  echo "$base cannot be pulled; Debian's packages stand in for it"
  debootstrap --variant=minbase --include=python3.11,python3.11-venv,python3-pip,ca-certificates \
    bookworm "$work/base" >"$work/debootstrap.log" || { cat "$work/debootstrap.log"; exit 1; }
  for name in python python3 python3.11; do ln -s /usr/bin/python3.11 "$work/base/usr/local/bin/$name"; done
  scratch=$(buildah from scratch)
  buildah add -q "$scratch" "$work/base" / >/dev/null
  buildah commit -q --rm "$scratch" "$base" >/dev/null
fi
buildah build --format docker --pull-never --layers -q -f docker/Dockerfile -t "$image" "$@" . >/dev/null
buildah images "$image"

# What a container engine does with `--read-only --tmpfs /tmp -v VOLUME:/data --cap-drop ALL
# --security-opt no-new-privileges`, by the kernel's own means. The network is the machine's.
container=$(buildah from --pull-never "$image")
root=$(buildah mount "$container")
mkdir "$work/data"
chown 10001:10001 "$work/data"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
environment=(AVGZSL_PORT="$port")
while read -r line; do environment=("$line" "${environment[@]}"); done \
  < <(buildah inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$image" | sed '/^$/d')
inside() {
  unshare --mount --pid --fork --kill-child sh -euc '
    root=$1; data=$2; shift 2
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o size=256m,mode=1777 tmpfs "$root/tmp"
    mount --bind "$data" "$root/data"
    mount -o remount,bind,ro "$root"
    exec chroot "$root" setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \
      --bounding-set -all --inh-caps -all env -i "$@"
  ' sh "$root" "$work/data" "${environment[@]}" "$@"
}
inside sh -c 'test "$(id -u)" = 10001; ! touch /opt/avgzsl/x 2>/dev/null; touch /tmp/x /data/x; rm /data/x'
inside avgzsl serve >"$work/log" 2>&1 &
server=$!
for _ in $(seq 120); do
  if inside python /opt/avgzsl/healthcheck.py >/dev/null 2>&1; then ready=yes; break; fi
  kill -0 "$server" 2>/dev/null || break
  sleep 1
done
[ "${ready:-}" = yes ] || { cat "$work/log"; echo "not ready"; exit 1; }
curl -fsS -F file=@samples/clock.mp4 -F top_k=1 "http://127.0.0.1:$port/classify" && echo
curl -fsS -F file=@samples/clock.mp4 -o /dev/null "http://127.0.0.1:$port/clips"
# The signal that STOPSIGNAL names must end it in order: what it leaves is what the next one starts on.
pkill -TERM -P "$(pgrep -P "$server")" 2>/dev/null || kill -TERM "$(pgrep -P "$server")"
if wait "$server"; then echo "stopped in order"; else echo "ended with $?"; cat "$work/log"; exit 1; fi
server=
if grep -iE 'read-only file system|permission denied' "$work/log"; then exit 1; fi
echo "proved: built, ready on a read-only root as uid 10001, answered, stopped"
