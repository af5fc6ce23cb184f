#!/bin/sh
# Make the passwords of `docker compose --profile cluster`, one file a service, each holding only what
# that service needs. They are kept in docker/secrets, which git does not see; files that exist stay.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

if [ -e secrets/avgzsl.env ]; then
  echo "docker/secrets is there already; remove it to start over, with the volumes that were made by it" >&2
  exit 1
fi
postgres="p$(random)"
minio="m$(random)"
milvus="v$(random)"
echo "POSTGRES_PASSWORD=$postgres" >secrets/postgres.env
printf 'MINIO_ROOT_USER=avgzsl\nMINIO_ROOT_PASSWORD=%s\n' "$minio" >secrets/minio.env
printf 'MINIO_ACCESS_KEY_ID=avgzsl\nMINIO_SECRET_ACCESS_KEY=%s\nCOMMON_SECURITY_DEFAULTROOTPASSWORD=%s\n' \
  "$minio" "$milvus" >secrets/milvus.env
echo "GF_SECURITY_ADMIN_PASSWORD=g$(random)" >secrets/grafana.env
printf 'AVGZSL_CATALOGUE_URL=postgresql://avgzsl:%s@postgres/avgzsl\nAVGZSL_VECTOR_STORE=milvus:http://root:%s@milvus:19530\n' \
  "$postgres" "$milvus" >secrets/avgzsl.env
printf 'AWS_ACCESS_KEY_ID=avgzsl\nAWS_SECRET_ACCESS_KEY=%s\n' "$minio" >>secrets/avgzsl.env
echo "made docker/secrets: $(ls secrets | tr '\n' ' ')"
