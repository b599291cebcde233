// Package faults holds the table of faults to its word: for each thing that can die, fill up, lie or be in two places, what
// is promised and which tests prove it, in whatever package they are. docs/reliability.md shows the table.
//
// A further test of a fault is a further line in rows_test.go; go test ./test/faults -update then writes the document.
package faults
