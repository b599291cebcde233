package main

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
)

func TestVersion(t *testing.T) {
	want := version{Hash: "e02371a", Msg: "say hello", Date: "2026-11-23T13:06:43Z"}
	w := httptest.NewRecorder()
	handler(want).ServeHTTP(w, httptest.NewRequest("GET", "/version", nil))
	var got version
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
