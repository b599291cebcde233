// Package endurance lets one agent follow a long row of releases over a store that shakes, and looks at what that costs.
//
// The subject is the real towline-agent, one process from the first deployment to the last, with a port that is pinged. Its
// bucket is a real S3 server behind a gateway (shaky_test.go) that, by a seed, resets connections, breaks answers off, holds
// them back and answers 503. Good releases alternate with bad ones of five kinds (publish_test.go). After each deployment the
// record must say what is true of that release, and what is live must be the last good one; all along, records must have
// numbers without a gap and one last word each (story_test.go). Disk, memory, descriptors, threads, goroutines and files of the
// state are compared between an early stretch and the end (measure_test.go).
//
// go test ./test/endurance runs a short form; -args -deployments 1000 -seed N the long one.
package endurance
