// Package bench measures the released programs as whole processes, on real input and against a real S3 server, beside what
// people use today, and prints a table:
//
//	go test -run '^$' -bench Table ./test/bench
//
// BenchmarkPeers does so with trees of a real app, on new filesystems, cold, small, and over a slow link; BenchmarkGrowth with
// more files, more bytes, more changes; BenchmarkIdle watches the installed agent. What they measure of what the project
// promises goes into one more table, see summary_test.go.
//
// Nothing here judges by seconds: two sides of a row run by turns in one run, and the ratio of each round is what counts.
// docs/performance.md holds a run's table, says how to read it and what to beware of.
package bench
