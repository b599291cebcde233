// Package zoo deploys to units that misbehave, each in its own way, on a booted server with systemd, D-Bus and polkit.
//
// There is one droplet and one agent, as it is packaged, with an app for each unit; the bucket is a directory. Every unit first
// gets a release that works and then one that does not; all do so at the same time. What is asked is the same for all: the
// outcome, the step that failed, the reason in the receipt, what `towline status` says, how long it took, and that the old
// release answers again. Then the bus and polkit misbehave, under an agent that depends on both.
//
// Program beast is what the units run: an app that answers with the version.txt of the directory that it was started in, and
// that can be told to misbehave.
package zoo
