#!/bin/sh
# Makes the site in public/: each page between head and foot, and the assets. Stands for the generator that you use.
set -eu
cd "$(dirname "$0")"
rm -rf public
mkdir public
for page in pages/*.html; do
	cat layout/head.html "$page" layout/foot.html >"public/$(basename "$page")"
done
cp -R assets/. public/
