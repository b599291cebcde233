#!/bin/sh
# Deploys a directory of a git repository, from a laptop or from any CI:
#
#   ./deploy.sh [DIRECTORY]        default: dist
#
# From the environment, so that no secret stands on a command line:
#
#   TOWLINE_SIGNING_KEY            the private half that `towline keygen` printed
#   TOWLINE_BUCKET                 bucket name, s3://name?region=…&endpoint=… or file:///directory
#   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or whatever else the AWS SDK takes for credentials
#   TOWLINE_SERVERS                agents to ping, [name=]https://host:8422[#sha256=…], one a line; empty: none
#   TOWLINE_EXPECT                 names of servers to wait for without a ping, one a line; empty: none
#   APP, ENVIRONMENT               default: web, production
set -eu

: "${TOWLINE_SIGNING_KEY:?is not set}" "${TOWLINE_BUCKET:?is not set}"
dir=${1:-dist}

# The release has the name of the commit, so it should be what was committed.
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
	echo "deploy.sh: there are changes that are not committed" >&2
	exit 2
fi

exec towline publish --promote --app "${APP:-web}" --environment "${ENVIRONMENT:-production}" --path "$dir" \
	--version-file version.json --servers "${TOWLINE_SERVERS:-}" --expect-servers "${TOWLINE_EXPECT:-}"
