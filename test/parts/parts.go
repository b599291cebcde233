// Package parts starts the real parts that whole-system tests run against: an S3 server, a booted droplet, a
// container engine, a workflow runner, a browser. Each starter installs what it needs where it can, cleans up what it started,
// and says loudly what is missing where it cannot.
package parts

import (
	"os"
	"testing"
)

// Required reports whether a missing part must fail the test: TOWLINE_TEST_REQUIRE=all, as the project's CI sets it.
func Required() bool { return os.Getenv("TOWLINE_TEST_REQUIRE") == "all" }

// Skip ends the test because something that it needs is missing; where every part is required it fails instead, so
// that a skip cannot rot unseen.
func Skip(t testing.TB, missing string) {
	t.Helper()
	if Required() {
		t.Fatalf("missing, and TOWLINE_TEST_REQUIRE=all: %s", missing)
	}
	t.Skipf("SKIPPED, missing: %s", missing)
}
