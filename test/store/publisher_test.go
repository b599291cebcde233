package store

import (
	"strings"
	"testing"
)

// publishRow is a publisher before whom the store misbehaves.
type publishRow struct {
	name   string
	faults map[string]fault
	code   int
	words  string // in what it prints
	moved  bool   // the pointer, although the code may say that nobody knows
	call   string // "METHOD kind", of which
	most   int    // so many may be seen
}

var publishing = []publishRow{
	{name: "reset on the upload", faults: map[string]fault{"PUT artifact": first(1, reset)}, moved: true, call: "PUT artifact", most: 2},
	{name: "answer of the upload lost", faults: map[string]fault{"PUT artifact": first(1, lost)}, moved: true, call: "PUT artifact", most: 2},
	{name: "answer of the history lost", faults: map[string]fault{"PUT history": first(1, lost)}, moved: true, call: "PUT history", most: 3},
	{name: "answer of the pointer lost", faults: map[string]fault{"PUT pointer": first(1, lost)}, moved: true, call: "PUT pointer", most: 2},
	{name: "resets all the time", faults: map[string]fault{"any": reset}, code: 1, words: "connection reset", call: "GET listing", most: 3},
	{name: "pointer stalls once", faults: map[string]fault{"GET pointer": first(1, stall)}, moved: true, call: "GET pointer", most: 4},
	{name: "pointer truncated", faults: map[string]fault{"GET pointer": truncated}, code: 1, words: "unexpected EOF", call: "GET pointer", most: 3},
	{name: "pointer drips", faults: map[string]fault{"GET pointer": drip}, moved: true, call: "GET pointer", most: 3},
	{name: "503 for a moment", faults: map[string]fault{"any": first(2, busy)}, moved: true, call: "GET listing", most: 5},
	{name: "429 for a moment", faults: map[string]fault{"PUT pointer": first(2, tooFew)}, moved: true, call: "PUT pointer", most: 3},
	{name: "503 storm", faults: map[string]fault{"any": busy}, code: 1, words: "503", call: "GET listing", most: 3},
	{name: "429 storm", faults: map[string]fault{"any": tooFew}, code: 1, words: "429", call: "GET listing", most: 3},
	{name: "503 after the history", faults: map[string]fault{"PUT pointer": busy}, code: 1, words: "replace object", call: "PUT pointer", most: 3},
	{name: "403", faults: map[string]fault{"any": denied}, code: 2, words: "access denied", call: "PUT artifact", most: 1},
	{name: "pointer 403", faults: map[string]fault{"GET pointer": denied}, code: 2, words: "access denied", call: "GET pointer", most: 1},
	{name: "web page", faults: map[string]fault{"any": page(200)}, code: 1, words: "web page", call: "GET listing", most: 1},
	{name: "web page with 503", faults: map[string]fault{"any": page(503)}, code: 1, words: "503", call: "GET listing", most: 3},
	{name: "pointer a web page", faults: map[string]fault{"GET pointer": page(200)}, code: 1, words: "web page", call: "GET pointer", most: 1},
	{name: "upload answered by a portal", faults: map[string]fault{"PUT artifact": page(200)}, code: 1, words: "captive portal", call: "PUT artifact", most: 1},
	{name: "history answered by a portal", faults: map[string]fault{"PUT history": page(200)}, code: 1, words: "captive portal", call: "PUT history", most: 1},
	{name: "pointer's write answered by a portal", faults: map[string]fault{"PUT pointer": page(200)}, code: 1, words: "captive portal", call: "PUT pointer", most: 1},
	{name: "pointer's write without an answer's etag", faults: map[string]fault{"PUT pointer": blank}, code: 1, words: "without an ETag", call: "PUT pointer", most: 1},
	{name: "pointer empty", faults: map[string]fault{"GET pointer": empty}, code: 6, words: "version.json", call: "GET pointer", most: 1},
	{name: "pointer of 10 GiB", faults: map[string]fault{"GET pointer": huge}, code: 1, words: "larger than", call: "GET pointer", most: 1},
	{name: "pointer without end", faults: map[string]fault{"GET pointer": endless}, code: 1, words: "larger than", call: "GET pointer", most: 1},
	{name: "conditions ignored", faults: map[string]fault{"any": deaf}, words: "lets an object be created twice", moved: true, call: "PUT pointer", most: 1},
	{name: "unquoted etags only", faults: map[string]fault{"any": bare}, moved: true, call: "PUT pointer", most: 2},
}

func (row publishRow) run(t *testing.T, s *site) {
	s.published("v1", small)
	_, before := s.gateway.Do(t, "GET", "/"+bucket+"/"+s.app+"/production/version.json", nil)
	s.proxy.set(row.faults)
	code, out := s.publish(s.proxy.URL, "v2", small)
	if code != row.code || !strings.Contains(out, row.words) {
		t.Errorf("got code %d, want %d and %q in:\n%s", code, row.code, row.words, out)
	}
	calls := s.proxy.seen(row.call)
	if len(calls) == 0 || len(calls) > row.most {
		t.Errorf("got %d of %s, want 1 to %d; all: %v", len(calls), row.call, row.most, s.proxy.seen(""))
	}
	if got := len(s.proxy.seen("")); got > 40 {
		t.Errorf("got %d requests in all, want at most 40", got)
	}
	_, after := s.gateway.Do(t, "GET", "/"+bucket+"/"+s.app+"/production/version.json", nil)
	if moved := string(before) != string(after); moved != row.moved {
		t.Errorf("the pointer moved: got %v, want %v", moved, row.moved)
	}
	// The store is well again, and so is the next run of the same commit.
	s.proxy.set(nil)
	if code, out := s.publish(s.proxy.URL, "v2", small); code != 0 {
		t.Errorf("with the store well: got code %d, want 0:\n%s", code, out)
	}
	if _, now := s.gateway.Do(t, "GET", "/"+bucket+"/"+s.app+"/production/version.json", nil); !strings.Contains(string(now), `"hash": "v2"`) {
		t.Errorf("with the store well: the pointer is %s, want v2", now)
	}
}
