// Package system holds the tests of the whole system on real parts: the action in a container under a workflow runner, an
// S3 server, the agent as a service of a booted server with systemd. They need root; package parts says what else.
package system
