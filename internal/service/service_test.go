package service

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/towline/towline/internal/deployment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNoneDoesNothing(t *testing.T) {
	var n None
	if err := n.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if st, err := n.State(t.Context()); err != nil || st != (deployment.UnitState{}) {
		t.Errorf("got %+v, %v, want the zero state", st, err)
	}
	if lines, err := n.Log(t.Context(), 40); err != nil || lines != nil {
		t.Errorf("got %q, %v, want nothing", lines, err)
	}
}

func TestCleanIsSafe(t *testing.T) {
	if got, want := clean("\x1b[31merror\x1b[0m:\tno\x00 file\r\n"), "error: no  file"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		got := clean(string(rapid.SliceOf(rapid.Byte()).Draw(t, "line")))
		if !utf8.ValidString(got) || strings.IndexFunc(got, unicode.IsControl) >= 0 || utf8.RuneCountInString(got) > maxLine {
			t.Fatalf("got %q", got)
		}
	})
	if got := clean(strings.Repeat("ä", 600)); utf8.RuneCountInString(got) != maxLine || !strings.HasSuffix(got, "…") {
		t.Errorf("got %d runes", utf8.RuneCountInString(got))
	}
}

// TestTail compares with keeping everything and cutting at the end.
func TestTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 64).Draw(t, "limit")
		n := rapid.IntRange(1, 6).Draw(t, "n")
		kept := &tail{max: limit}
		var all strings.Builder
		for _, chunk := range rapid.SliceOf(rapid.StringMatching(`[ab\n]{0,20}`)).Draw(t, "chunks") {
			kept.Write([]byte(chunk))
			all.WriteString(chunk)
		}
		got := kept.lines(n)
		if len(got) > n || len(strings.Join(got, "\n")) > limit {
			t.Fatalf("got %q, over the limits", got)
		}
		want := strings.Split(strings.TrimRight(all.String(), "\n"), "\n")
		if all.Len() <= limit {
			want = want[max(0, len(want)-n):]
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("got %q, want %q", got, want)
			}
		} else if len(got) > 1 && !strings.HasSuffix(strings.Join(want, "\n"), strings.Join(got, "\n")) {
			t.Fatalf("got %q, not the end of %q", got, want)
		}
	})
}
