// Package schema holds JSON that people's programs read to the schemas in docs/.
package schema

import (
	"bytes"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Path is where the schema of that name lies.
func Path(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "docs", name+".schema.json")
}

// Check fails the test where text is not what the schema of that name says.
func Check(t testing.TB, name, text string) {
	t.Helper()
	compiled, err := jsonschema.NewCompiler().Compile(Path(name))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err == nil {
		err = compiled.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: %v in\n%s", name, err, text)
	}
}
