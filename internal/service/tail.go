package service

import (
	"bytes"
	"strings"
	"sync"
)

// tail keeps the end of what is written to it. It is safe for concurrent use: a program that a command left running
// may still write while the lines are read.
type tail struct {
	max int // bytes kept

	mu  sync.Mutex
	buf []byte
	cut bool // earlier output was dropped
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.max {
		t.trim()
	}
	return len(p), nil
}

// trim drops all but the last max bytes.
func (t *tail) trim() {
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0:0], t.buf[over:]...)
		t.cut = true
	}
}

// lines returns the last n lines, cleaned.
func (t *tail) lines(n int) []string {
	all := t.raw(n)
	for i, line := range all {
		all[i] = clean(line)
	}
	return all
}

// raw returns the last n lines. A line whose beginning was dropped is left out unless it is the only one.
func (t *tail) raw(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trim()
	data := t.buf
	if t.cut {
		if i := bytes.IndexByte(data, '\n'); i >= 0 && i+1 < len(data) {
			data = data[i+1:]
		}
	}
	text := strings.TrimRight(string(data), "\n")
	if text == "" {
		return nil
	}
	all := strings.Split(text, "\n")
	return all[max(0, len(all)-n):]
}
