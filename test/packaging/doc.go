// Package packaging holds the tests of what a release is made with: the files that packaging/release makes, the package
// from its first installation on a booted server to its last purge, the apt repository and the script that installs from it,
// the image, the workflows. Package parts says what the server needs; the rest needs the Debian packages git, jq, gnupg,
// apt-utils, curl, lintian and shellcheck.
package packaging
