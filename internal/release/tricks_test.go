package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// trick is a document that says what a good one says, or nearly, in a way that readers of JSON disagree about.
type trick struct {
	name string
	text []byte
}

// member is one field of an object, its value as it stands.
type member struct {
	key   string
	value json.RawMessage
}

// members takes an object apart without losing the order of its fields.
func members(t testing.TB, object []byte) []member {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	var out []member
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		m := member{key: key.(string)}
		if err := d.Decode(&m.value); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// tricks plays every trick on every field of every object in a good document, at any depth.
func tricks(t testing.TB, document []byte) []trick {
	t.Helper()
	s := string(document)
	out := []trick{
		{"empty", nil}, {"null", []byte("null")}, {"array", []byte("[]")}, {"array around", []byte("[" + s + "]")},
		{"string", []byte(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)}, {"number", []byte("184")},
		{"byte order mark", []byte("\ufeff" + s)}, {"NUL after", []byte(s + "\x00")}, {"NUL before", []byte("\x00" + s)},
		{"twice", []byte(s + s)}, {"trailing brace", []byte(s + "}")}, {"trailing null", []byte(s + " null")},
		{"trailing comma", []byte(s[:len(s)-1] + ",}")}, {"comment", []byte("/* */" + s)}, {"cut", []byte(s[:len(s)-1])},
		{"single quotes", []byte(strings.ReplaceAll(s, `"`, `'`))}, {"UTF-16", []byte(strings.Join(strings.Split(s, ""), "\x00"))},
		{"vertical tab", []byte("\v" + s)},
	}
	return append(out, within(t, "", document, func(changed []byte) []byte { return changed })...)
}

// within plays the tricks on the object's fields; whole puts a changed object back to where it came from.
func within(t testing.TB, path string, object []byte, whole func([]byte) []byte) []trick {
	t.Helper()
	fields := members(t, object)
	var out []trick
	for i, f := range fields {
		at := path + "." + f.key
		// with replaces the field by texts of the form "key": value.
		with := func(texts ...string) []byte {
			var all []string
			for j, g := range fields {
				if j == i {
					all = append(all, texts...)
				} else {
					all = append(all, field(g.key, string(g.value)))
				}
			}
			return whole([]byte("{" + strings.Join(all, ",") + "}"))
		}
		value := string(f.value)
		play := func(name string, texts ...string) { out = append(out, trick{name + " at " + at, with(texts...)}) }
		play("duplicate", field(f.key, value), field(f.key, value))
		play("duplicate null first", field(f.key, "null"), field(f.key, value))
		play("duplicate null last", field(f.key, value), field(f.key, "null"))
		play("upper case", field(strings.ToUpper(f.key), value))
		play("title case beside", field(strings.ToUpper(f.key[:1])+f.key[1:], value), field(f.key, value))
		play("null", field(f.key, "null"))
		play("another kind", field(f.key, "[[]]"))
		play("unknown beside", field(f.key, value), field("x", "1"))
		play("unknown beside, empty name", field("", "null"), field(f.key, value))
		play("prototype", field("__proto__", "{}"), field(f.key, value))
		play("escaped name", `"`+fmt.Sprintf(`\u%04x`, f.key[0])+f.key[1:]+`":`+value)
		play("deep beside", field(f.key, value), field("x", strings.Repeat("[", 5000)+strings.Repeat("]", 5000)))
		play("too deep beside", field(f.key, value), field("x", strings.Repeat("[", 11000)))
		for plain, odd := range map[string]string{"s": "\u017f", "k": "\u212a"} { // which fold to s and k
			if strings.Contains(f.key, plain) {
				play("folds to "+plain, field(strings.Replace(f.key, plain, odd, 1), value))
			}
		}
		switch value[0] {
		case '"':
			play("as number", field(f.key, "7"))
			play("lone surrogate", field(f.key, `"\ud800`+value[1:]))
			play("invalid UTF-8", field(f.key, "\"\xff"+value[1:]))
			play("overlong UTF-8", field(f.key, "\"\xc0\xaf"+value[1:]))
			play("NUL", field(f.key, `"\u0000`+value[1:]))
			play("raw control character", field(f.key, "\"\x01"+value[1:]))
			play("escaped slash", field(f.key, `"\/`+value[1:]))
			if len(value) > 2 && value[1] < 0x80 && value[1] != '\\' {
				play("escaped letter", field(f.key, `"`+fmt.Sprintf(`\u%04x`, value[1])+value[2:]))
			}
			if strings.ContainsAny(value, "<>&") {
				play("escaped HTML", field(f.key, strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(value)))
			}
		case '{':
			play("empty object", field(f.key, "{}"))
			play("as array", field(f.key, "["+value+"]"))
			out = append(out, within(t, at, f.value, func(changed []byte) []byte { return with(field(f.key, string(changed))) })...)
		case '[':
			var items []json.RawMessage
			if err := json.Unmarshal(f.value, &items); err != nil {
				t.Fatal(err)
			}
			play("as object", field(f.key, `{"0":`+string(items[0])+`}`))
			play("null item", field(f.key, `[`+string(items[0])+`,null]`))
			out = append(out, within(t, at+"[0]", items[0], func(changed []byte) []byte {
				return with(field(f.key, "["+string(changed)+"]"))
			})...)
		default:
			for _, number := range []string{
				value + ".0", value + "e0", value + "E+0", "-" + value, "0" + value, "+" + value, `"` + value + `"`, "-0", "1e400",
				"18446744073709551616", "184467440737095516160000", "0x10", "NaN", "Infinity", value + strings.Repeat("0", 5000),
			} {
				play("number "+CleanText(number, 30), field(f.key, number))
			}
		}
		if i > 0 {
			swapped := append([]member{}, fields...)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			var all []string
			for _, g := range swapped {
				all = append(all, field(g.key, string(g.value)))
			}
			out = append(out, trick{"swapped at " + at, whole([]byte("{" + strings.Join(all, ",") + "}"))})
		}
	}
	return out
}

func field(key, value string) string { return `"` + key + `":` + value }

// Readers of JSON disagree about duplicate and differently cased names, about numbers, escapes and what follows the
// document. None of that is accepted: not in the file, not in the envelope, and not in a payload that is truly signed.
func TestJSONTricks(t *testing.T) {
	key := testKey(t, 1)
	trust := testTrust(t, 1, key)
	counted := map[string]int{}
	refuse := func(t *testing.T, what, name string, file []byte, accepted bool, err error) {
		t.Helper()
		counted[what]++
		if accepted || !errors.Is(err, ErrVerify) {
			t.Errorf("%s, %s: err = %v, want ErrVerify: %.300q", what, name, err, file)
		}
	}
	pointerFile := func(payload []byte) []byte {
		env, err := seal(PointerPayloadType, payload, []PrivateKey{key})
		must(t, err)
		file, err := encodeFile(testPointer(), env)
		must(t, err)
		return file
	}
	manifestFile := func(payload []byte) []byte {
		env, err := seal(ManifestPayloadType, payload, []PrivateKey{key})
		must(t, err)
		file, err := indent(env)
		must(t, err)
		return file
	}

	waves := testPointer()
	waves.Rollout = &Rollout{Waves: []string{"canary"}, Open: 1}
	for name, p := range map[string]Pointer{"pointer": testPointer(), "pointer with waves": waves} {
		payload, err := encode(p)
		must(t, err)
		if _, err := trust.Pointer(pointerFile(payload), testWant); err != nil {
			t.Fatalf("%s: the payload itself: %v", name, err)
		}
		for _, c := range append(objectTricks(t, payload), spaceTricks(payload)...) {
			file := pointerFile(c.text)
			v, err := trust.Pointer(file, testWant)
			refuse(t, "signed "+name, c.name, c.text, v.Valid(), err)
			v, err = NoTrust().Pointer(file, testWant)
			refuse(t, "unsigned "+name, c.name, c.text, v.Valid(), err)
		}
	}
	payload, err := encode(testManifest())
	must(t, err)
	if _, err := trust.Manifest(manifestFile(payload), testWant); err != nil {
		t.Fatalf("the release object itself: %v", err)
	}
	for _, c := range append(tricks(t, payload), spaceTricks(payload)...) {
		_, err := trust.Manifest(manifestFile(c.text), testWant)
		refuse(t, "signed release object", c.name, c.text, err == nil, err)
	}

	file, err := SignPointer(testPointer(), key)
	must(t, err)
	for _, c := range tricks(t, []byte(compact(t, file))) {
		v, err := trust.Pointer(c.text, testWant)
		refuse(t, "version.json", c.name, c.text, v.Valid(), err)
	}
	file, err = SignManifest(testManifest(), key)
	must(t, err)
	for _, c := range tricks(t, []byte(compact(t, file))) {
		_, err := trust.Manifest(c.text, testWant)
		refuse(t, "release object", c.name, c.text, err == nil, err)
	}
	t.Logf("refused: %v", counted)
}

// objectTricks are the tricks for a payload, whose waves are texts and not objects.
func objectTricks(t testing.TB, payload []byte) []trick {
	plain := bytes.Replace(payload, []byte(`"waves":["canary"]`), []byte(`"waves":"canary"`), 1)
	out := tricks(t, plain)
	for i := range out {
		out[i].text = bytes.Replace(out[i].text, []byte(`"waves":"canary"`), []byte(`"waves":["canary"]`), 1)
	}
	return out
}

// spaceTricks are white space where a payload has none; a file may have it.
func spaceTricks(payload []byte) []trick {
	s := string(payload)
	return []trick{
		{"space before", []byte(" " + s)}, {"line end after", []byte(s + "\n")}, {"space within", []byte(strings.Replace(s, ":", ": ", 1))},
		{"space at the end", []byte(s[:len(s)-1] + " }")},
	}
}

// Line ends inside of base64 are skipped by readers, so two texts would stand for one payload.
func TestBase64HasOneForm(t *testing.T) {
	key := testKey(t, 1)
	file, err := SignPointer(testPointer(), key)
	must(t, err)
	for _, name := range []string{`"payload": "`, `"sig": "`} {
		for _, odd := range []string{`\n`, `\r\n`, ` `, `=`} {
			changed := bytes.Replace(file, []byte(name), []byte(name+odd), 1)
			if v, err := testTrust(t, 1, key).Pointer(changed, testWant); v.Valid() || !errors.Is(err, ErrVerify) {
				t.Errorf("%s%s: err = %v, want ErrVerify", name, odd, err)
			}
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
