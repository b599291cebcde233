package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSecretsMustBeSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, test := range []struct {
		text string
		mode os.FileMode
		ok   bool
	}{{"abc\n", 0o600, true}, {"abc", 0o640, true}, {"abc", 0o644, false}, {"", 0o600, false}, {"a\nb", 0o600, false}} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if got, err := readSecret(path); (err == nil) != test.ok || test.ok && got != "abc" {
			t.Errorf("%q, mode %o: got %q, %v", test.text, test.mode, got, err)
		}
	}
}
