// Package crash lets the agent die, and its disk fail, at every point of a deployment, and looks at what is left.
//
// The subject is the real towline-agent, run with --once on a filesystem of its own against a directory bucket that the
// real towline has filled. One app with a shared directory, a restart command and a health check goes from release to
// release; a scenario is one such step. At each point of a scenario something happens:
//
//	kill_test.go     SIGKILL at the nth call of a system call in a thread, by strace's injection; and again in the recovery
//	fault_test.go    the nth call fails with EIO, ENOSPC, EDQUOT or EROFS, once or from then on
//	cut_test.go      the power goes: the filesystem's image as a prefix of its writes leaves it, with writes after the last
//	                 flush lost, torn or reordered (package blocks records and rebuilds them under a loop device)
//	control_test.go  the negative control: one fsync is left out, and the power cuts must find it
//
// After each the same must hold (check.go): current names the old release or the new one, whole, byte for byte; the agent
// comes up again by itself and ends where the scenario ends; nothing half-made is left. How many points a run takes is
// said by the flags -kills, -faults and -images; without them it is what continuous integration takes.
package crash
