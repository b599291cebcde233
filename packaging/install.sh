#!/bin/sh
# Installs Towline's agent and command on Debian and Ubuntu, from the project's signed apt repository:
#
#   sh install.sh [--version X.Y.Z] [--repo URL] [--dry-run]
#   sh install.sh --uninstall [--dry-run]
#
# It writes one file, /etc/apt/sources.list.d/towline.sources, with the repository's address and key, and leaves the rest to
# apt-get. Running it again upgrades; where there is nothing to do it changes nothing. --dry-run prints what would be done.
set -eu

sources=/etc/apt/sources.list.d/towline.sources
home=https://github.com/towline/towline

usage() {
	cat <<'EOF'
usage: install.sh [--version X.Y.Z] [--repo URL] [--dry-run]
       install.sh --uninstall [--dry-run]
EOF
}

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

key() {
	cat <<'EOF'
@KEY@
EOF
}

# deb822 prints the file that tells apt of the repository.
deb822() {
	cat <<EOF
# Written by install.sh of Towline.
Types: deb
URIs: $repo
Suites: stable
Components: main
Architectures: $arch
Signed-By:
EOF
	key | sed -e 's/^$/./' -e 's/^/ /'
}

# run runs a command, or shows it. apt-get must not read the rest of this script as its input.
run() {
	if [ "$dry" = yes ]; then
		echo "would run: $*"
	else
		DEBIAN_FRONTEND=noninteractive "$@" </dev/null
	fi
}

# installed prints the version that is installed; nothing when there is none.
installed() {
	dpkg-query --show --showformat='${db:Status-Status} ${Version}' towline 2>/dev/null | sed -n 's/^installed //p'
}

# supported ends the script on systems for which there is no package.
supported() {
	machine=$(uname -m)
	case "$machine" in
	x86_64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) fail "machine $machine: there are programs for amd64 and arm64 only" ;;
	esac
	tarball="towline_${version:-X.Y.Z}_linux_$arch.tar.gz of $home/releases"
	for program in apt-get dpkg dpkg-query; do
		command -v "$program" >/dev/null || fail "no $program here: this is for Debian and Ubuntu; elsewhere take $tarball"
	done
	arch=$(dpkg --print-architecture)
	case "$arch" in
	amd64 | arm64) ;;
	*) fail "architecture $arch: there are packages for amd64 and arm64 only" ;;
	esac
	apt=$(dpkg-query --show --showformat='${Version}' apt)
	dpkg --compare-versions "$apt" ge 2.3.10 ||
		fail "apt $apt is older than 2.3.10 (Debian 12, Ubuntu 22.04): upgrade the system, or take $tarball"
}

add() {
	key | grep -q '^-----BEGIN PGP PUBLIC KEY BLOCK-----$' ||
		fail "this copy has no key in it: take the one of $repo/install.sh"
	supported
	before=$(installed)
	if [ "$dry" = yes ]; then
		echo "would write $sources:"
		deb822
	elif [ "$(deb822)" != "$(cat "$sources" 2>/dev/null)" ]; then
		deb822 >"$sources.new"
		chmod 644 "$sources.new"
		mv "$sources.new" "$sources"
	fi
	run apt-get update --quiet --quiet
	if [ -n "$version" ]; then
		run apt-get install --quiet --quiet --yes --allow-downgrades "towline=$version"
	else
		run apt-get install --quiet --quiet --yes towline
	fi
	[ "$dry" = no ] || return 0
	after=$(installed)
	if [ "$before" = "$after" ]; then
		echo "towline $after: already up to date"
		return
	fi
	echo "towline $after is installed"
	[ -n "$before" ] || cat <<'EOF'
next: copy /etc/towline/agent.yaml.example to /etc/towline/agent.yaml, fill it in, check it with "towline config check",
let the agent manage your app with "towline app add NAME", and then: systemctl restart towline-agent
EOF
}

remove() {
	command -v apt-get >/dev/null || fail "no apt-get here: nothing that this script could have installed"
	if [ -n "$(installed)" ]; then
		run apt-get remove --quiet --quiet --yes towline
	fi
	run rm -f "$sources"
	echo "the apps, the agent's configuration and its state were left alone; apt-get purge towline removes the last two"
}

main() {
	version='' repo=https://towline.github.io/towline dry=no what=add
	while [ $# -gt 0 ]; do
		case "$1" in
		--version | --repo)
			[ $# -ge 2 ] || fail "$1 needs a value"
			case "$1" in
			--version) version=${2#v} ;;
			--repo) repo=${2%/} ;;
			esac
			shift
			;;
		--dry-run) dry=yes ;;
		--uninstall) what=remove ;;
		-h | --help)
			usage
			return
			;;
		*)
			usage >&2
			exit 2
			;;
		esac
		shift
	done
	case "$version" in
	*[!0-9.]*) fail "version $version: want X.Y.Z" ;;
	esac
	case "$repo" in
	*[!A-Za-z0-9:/._~%@-]*) fail "repository $repo: not an address" ;;
	https://?* | http://?* | file:///?*) ;;
	*) fail "repository $repo: want an https:// address" ;;
	esac
	[ "$dry" = yes ] || [ "$(id -u)" = 0 ] || fail "run as root, for example with sudo"
	"$what"
}

main "$@"
