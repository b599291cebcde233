#!/bin/sh
# Installs Towline's agent and command on Debian and Ubuntu, from the project's signed apt repository:
#
#   sh install.sh [--version X.Y.Z] [--channel stable|candidate] [--repo URL] [--no-start] [--dry-run | --print-sources]
#   sh install.sh --uninstall [--dry-run]
#
# It writes one file, /etc/apt/sources.list.d/towline.sources, with the repository's address and key, and leaves the rest to
# apt-get. Running it again upgrades; where there is nothing to do it changes nothing. --dry-run prints what would be done.
# Who is not root does it through sudo or doas. What the options say can stand in the environment too: TOWLINE_VERSION,
# TOWLINE_CHANNEL, TOWLINE_REPO, TOWLINE_NO_START=1, TOWLINE_DRY_RUN=1.
set -eu

sources=/etc/apt/sources.list.d/towline.sources
home=https://github.com/towline/towline
# The newest version of each channel when this copy was made, for where there is no apt to ask.
stable=@STABLE@
candidate=@CANDIDATE@

usage() {
	cat <<'TEXT'
usage: install.sh [--version X.Y.Z] [--channel stable|candidate] [--repo URL] [--no-start] [--dry-run | --print-sources]
       install.sh --uninstall [--dry-run]

  --version X.Y.Z        this version, newer or older than what is here    TOWLINE_VERSION
  --channel CHANNEL      stable, or candidate: what is to become stable    TOWLINE_CHANNEL
  --repo URL             another copy of the repository                    TOWLINE_REPO
  --no-start             neither start nor restart the agent               TOWLINE_NO_START=1
  --dry-run              print what would be done                          TOWLINE_DRY_RUN=1
  --print-sources        print the file for apt, and do nothing
  --uninstall            remove the package and the file for apt
TEXT
}

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

key() {
	cat <<'TEXT'
@KEY@
TEXT
}

# deb822 prints the file that tells apt of the repository.
deb822() {
	cat <<TEXT
# Written by install.sh of Towline.
Types: deb
URIs: $repo
Suites: $channel
Components: main
Architectures: $arch
Signed-By:
TEXT
	key | sed -e 's/^$/./' -e 's/^/ /'
}

# privileges finds out how to do what only root may: as is, or through a program.
privileges() {
	as=
	[ "$(id -u)" != 0 ] || return 0
	for program in sudo doas; do
		if command -v "$program" >/dev/null; then
			as=$program
			return 0
		fi
	done
	[ "$dry" = yes ] || fail "only root can do this, and there is neither sudo nor doas here: run it as root"
	echo "install.sh: only root can do this, and there is neither sudo nor doas here" >&2
}

# run runs a command as root, or shows it. apt-get must not read the rest of this script as its input.
run() {
	if [ "$dry" = yes ]; then
		echo "would run: ${as:+$as }$*"
	else
		# shellcheck disable=SC2086 # as is empty, or one word
		$as "$@" </dev/null
	fi
}

# aptget runs apt-get, which asks nothing.
aptget() {
	run env DEBIAN_FRONTEND=noninteractive ${no_start:+TOWLINE_NO_START=1} apt-get "$@"
}

# installed prints the version that is installed; nothing when there is none.
installed() {
	dpkg-query --show --showformat='${db:Status-Status} ${Version}' towline 2>/dev/null | sed -n 's/^installed //p'
}

# found says what system this is.
found() {
	# shellcheck source=/dev/null
	(. /etc/os-release && echo "$PRETTY_NAME") 2>/dev/null || uname -sr
}

# elsewhere ends the script on systems for which there is no package, with what to do there.
elsewhere() {
	release=$stable
	[ "$channel" = stable ] || release=$candidate
	release=${version:-${release:-X.Y.Z}}
	name=towline_${release}_linux_$arch
	get='curl -fsSLO'
	note=
	if ! command -v curl >/dev/null; then
		if command -v wget >/dev/null; then get='wget -q'; else note=' (there is neither curl nor wget here: get one first)'; fi
	fi
	cat >&2 <<TEXT
install.sh: this is $(found): $1
The packages are for Debian 12, Ubuntu 22.04 and newer. Elsewhere, with systemd, run this as root$note:

  cd "\$(mktemp -d)"
  $get $home/releases/download/v$release/$name.tar.gz
  $get $home/releases/download/v$release/SHA256SUMS
  grep $name.tar.gz SHA256SUMS | sha256sum -c
  tar -xzf $name.tar.gz
  cd $name
  install -m 755 towline towline-agent /usr/bin/
  install -m 644 towline-agent.service towline-agent.socket /etc/systemd/system/
  mkdir -p /etc/towline /etc/sysusers.d /etc/tmpfiles.d /usr/local/share
  install -m 644 agent.yaml.example /etc/towline/
  install -m 644 towline.sysusers /etc/sysusers.d/towline.conf
  install -m 644 towline.tmpfiles /etc/tmpfiles.d/towline.conf
  cp -R share/. /usr/local/share/
  systemd-sysusers towline.conf
  systemd-tmpfiles --create towline.conf
  systemctl daemon-reload

TEXT
	as='' next >&2
	exit 1
}

# supported ends the script on systems for which there is no package, and finds out the architecture.
supported() {
	machine=$(uname -m)
	case "$machine" in
	x86_64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) fail "this is $(found) on $machine: there are programs for amd64 and arm64 only" ;;
	esac
	for program in apt-get dpkg dpkg-query; do
		command -v "$program" >/dev/null || elsewhere "there is no $program"
	done
	arch=$(dpkg --print-architecture)
	case "$arch" in
	amd64 | arm64) ;;
	*) fail "this is $(found) for $arch: there are packages for amd64 and arm64 only" ;;
	esac
	apt=$(dpkg-query --show --showformat='${Version}' apt)
	dpkg --compare-versions "$apt" ge 2.3.10 || elsewhere "its apt $apt cannot keep a key in the file of a repository; that needs 2.3.10"
}

# next says what to do on a new server.
next() {
	cat <<TEXT
next:
  ${as:+$as }towline init                            asks, writes /etc/towline/agent.yaml, shows what goes into the workflow
  ${as:+$as }towline app add NAME --exec "COMMAND"   makes the app's directory, user and unit; with a unit: --unit NAME.service
  ${as:+$as }systemctl enable --now towline-agent
  ${as:+$as }towline doctor                          looks whether all is well; man towline tells the rest
TEXT
}

# sourced writes the file for apt, where it is not there as it should be.
sourced() {
	if [ "$(deb822)" = "$(cat "$sources" 2>/dev/null)" ]; then
		[ "$dry" = no ] || echo "would leave $sources as it is"
	elif [ "$dry" = yes ]; then
		echo "would write $sources:"
		deb822
	else
		# shellcheck disable=SC2086 # as is empty, or one word
		deb822 | $as tee "$sources.new" >/dev/null
		run chmod 644 "$sources.new"
		run mv "$sources.new" "$sources"
	fi
}

add() {
	key | grep -q '^-----BEGIN PGP PUBLIC KEY BLOCK-----$' ||
		fail "this copy has no key in it: take the one of $repo/install.sh"
	supported
	if [ "$print" = yes ]; then
		deb822
		return
	fi
	privileges
	before=$(installed)
	sourced
	aptget update --quiet --quiet
	if [ -n "$version" ]; then
		aptget install --quiet --quiet --yes --allow-downgrades "towline=$version"
	else
		aptget install --quiet --quiet --yes towline
	fi
	[ "$dry" = no ] || return 0
	after=$(installed)
	if [ "$before" = "$after" ]; then
		echo "towline $after: already up to date"
		return
	fi
	echo "towline $after is installed"
	[ -z "$version" ] || echo "apt-get upgrade will replace it with what is newer; to keep it: ${as:+$as }apt-mark hold towline"
	if [ -z "$before" ]; then
		next
	elif [ -n "$no_start" ]; then
		echo "an agent that runs is still the one before; when it suits: ${as:+$as }systemctl restart towline-agent"
	fi
}

remove() {
	command -v apt-get >/dev/null || fail "no apt-get here: nothing that this script could have installed"
	privileges
	if [ -n "$(installed)" ]; then
		aptget remove --quiet --quiet --yes towline
	fi
	run rm -f "$sources"
	echo "the apps, the agent's configuration and its state were left alone; ${as:+$as }apt-get purge towline removes the last two"
}

# flag prints yes for a variable of the environment that says so.
flag() {
	case "$2" in
	'' | 0 | no | false) ;;
	1 | yes | true) echo yes ;;
	*) fail "$1=$2: want 1, or nothing" ;;
	esac
}

main() {
	version=${TOWLINE_VERSION:-} channel=${TOWLINE_CHANNEL:-stable} repo=${TOWLINE_REPO:-https://towline.github.io/towline}
	no_start=$(flag TOWLINE_NO_START "${TOWLINE_NO_START:-}")
	dry=$(flag TOWLINE_DRY_RUN "${TOWLINE_DRY_RUN:-}")
	dry=${dry:-no} print=no what=add
	while [ $# -gt 0 ]; do
		case "$1" in
		--version | --channel | --repo)
			[ $# -ge 2 ] || fail "$1 needs a value"
			case "$1" in
			--version) version=$2 ;;
			--channel) channel=$2 ;;
			--repo) repo=$2 ;;
			esac
			shift
			;;
		--no-start) no_start=yes ;;
		--dry-run) dry=yes ;;
		--print-sources) print=yes ;;
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
	version=${version#v} repo=${repo%/}
	case "$version" in
	*[!0-9.]*) fail "version $version: want X.Y.Z" ;;
	esac
	case "$channel" in
	stable | candidate) ;;
	*) fail "channel $channel: want stable or candidate" ;;
	esac
	case "$repo" in
	*[!A-Za-z0-9:/._~%@-]*) fail "repository $repo: not an address" ;;
	https://?* | http://?* | file:///?*) ;;
	*) fail "repository $repo: want an https:// address" ;;
	esac
	"$what"
}

main "$@"
