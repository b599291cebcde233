package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestPrunedIsAFixedPoint(t *testing.T) {
	want, err := os.ReadFile("../testdata/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := prune(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes when pruned again, want the same %d", len(got), len(want))
	}
}

func TestPruneKeepsWhatValidatorsRead(t *testing.T) {
	schema := `{"type":"object","required":["description"],"x-note":1,"description":"gone","properties":{"description":{"type":"string","example":"gone"},"x-kept":{"type":"string"}}}`
	var doc map[string]any
	full := `{"openapi":"3.0.3","info":{},"servers":[],"paths":{},"components":{"schemas":{"used":` + schema + `,"unused":{}}}}`
	if err := json.Unmarshal([]byte(full), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range operations {
		item := object{}
		for _, method := range methods {
			item[method] = object{"summary": "gone", "responses": object{"200": object{"description": "gone", "content": object{
				"application/json": object{"schema": object{"$ref": "#/components/schemas/used"}},
			}}}}
		}
		doc["paths"].(object)[path] = item
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	got, err := prune(data)
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(string(got)), "")
	for _, want := range []string{
		`"required":["description"]`, `"properties":{"description":{"type":"string"},"x-kept":{"type":"string"}}`, `"description":""`,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("got %s, want %s in it", flat, want)
		}
	}
	for _, gone := range []string{"gone", "x-note", "unused", "summary"} {
		if strings.Contains(flat, gone) {
			t.Errorf("got %s, want no %s in it", flat, gone)
		}
	}

	delete(doc["components"].(object)["schemas"].(object), "used")
	if data, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	if _, err := prune(data); err == nil {
		t.Error("got no error for a reference to nothing")
	}
}
