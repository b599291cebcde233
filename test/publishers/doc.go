// Package publishers lets many publishers at once move one pointer, and lets them die at every request, and looks at what is
// left in the bucket.
//
// Parties: publishers, which are processes of the real towline against a real S3 server through a gate that delays, strips
// conditions, counts and cuts (gate_test.go), or package publish itself against a store in memory in time that is made up
// (store_test.go, simulate_test.go), for thousands of rounds; people who restore an old version.json; an agent that looks.
//
//	chain_test.go     what must hold of any history of operations: it linearises, and it is one chain
//	simulate_test.go  16 at once, made-up latencies, stores of four kinds
//	race_test.go      16 processes at once, straight and through latency and jitter; promote, rollback and restore among them
//	loose_test.go     a store that ignores create-only, If-Match, or both: what is claimed, and what is said
//	cut_test.go       SIGKILL and SIGTERM at the nth request, before it arrives and after it was carried out
//	late_test.go      an old commit's job that comes late
//
// How many rounds are run is said by the flag -rounds; without it, it is what continuous integration takes.
package publishers
