// Package bench measures the released programs as whole processes, on real input and against a real S3 server, beside what
// people use today, and prints one table:
//
//	go test -bench . ./test/bench
//
// Nothing here judges by seconds: two sides of a row run by turns in one run, and the ratio of each round is what counts.
// docs/performance.md holds a run's table, says how to read it and what to beware of.
package bench
