// Package packaging holds the tests of what a release is made with: the files that packaging/release makes, the apt
// repository and the script that installs from it on a booted server, the image, the workflows. Package parts says what the
// server needs; the rest needs the Debian packages git, jq, gnupg, apt-utils, curl and shellcheck.
package packaging
