// Package host has the agent's machine misbehave under it: full disks and lost ones, a clock that is wrong by years, reboots in
// the middle of a deployment, another agent, and an administrator who edits by hand what is the agent's.
//
// The subject is the real towline-agent, as a process of its own; what the real towline has published into a directory is
// its bucket. The store (store_test.go) serves that directory as an S3 store with a clock of its own, and stops the test's
// world at a chosen byte of an artifact: so a fault comes at the same step in every run.
//
//	disk_test.go      no space, no inodes, read-only, unmounted, two filesystems: before a deployment and during one
//	clock_test.go     the server's clock, the store's and the publisher's differ by years
//	jump_test.go      the clock is set while a deployment runs, and is put back under the agent's memory
//	twice_test.go     two agents on one state, one app, one socket, one port
//	state_test.go     the agent's memory torn or deleted
//	byhand_test.go    current and release directories edited by hand
//	unit_test.go      on a droplet: the app's unit stopped and edited by hand
//	reboot_test.go    a droplet with the agent's packaged unit, and gates that hold a deployment at a step
//	death_test.go     on it: the power goes, it is rebooted, the agent is killed, the agent is restarted, at each step
//	many_test.go      a hundred apps in one agent, and a storm of pings
//
// In all of them the same must hold: what was live stays live, whole, until the next release has proven healthy; what is wrong is
// said in words that name it; and the agent goes on by itself once it is mended, or says which command it needs.
package host
