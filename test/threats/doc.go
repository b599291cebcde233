// Package threats attacks Towline on its whole path: the real command publishes into a real bucket, the real agent follows it,
// and in between stands an attacker who may write whatever he likes into the bucket, ring the agent, or has got hold of a key.
//
// Each row of the table of threats (rows_test.go) names the tests that prove its defence, here and in other packages;
// SECURITY.md shows the table. go test ./test/threats -update writes it there.
package threats
