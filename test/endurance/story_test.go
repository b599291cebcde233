package endurance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deployment"
)

// story is every record that the agent has ever had, by its number. The agent itself keeps the newest hundred.
type story struct {
	records map[int]deployment.Record
	again   int // deployments that the store's trouble ended, and that were tried again
}

// read takes in new records, and holds each against what a record must be: one last word, with the record's own outcome.
func (s *story) read(t *testing.T, records []deployment.Record) {
	t.Helper()
	for _, r := range records {
		var number int
		if _, err := fmt.Sscanf(r.ID, "%d-", &number); err != nil {
			t.Fatalf("deployment %q: want a number at the beginning", r.ID)
		}
		if was, ok := s.records[number]; ok {
			if was.ID != r.ID || was.Seq != r.Seq || was.Outcome != r.Outcome {
				t.Errorf("record %d: got %s, seq %d, %s; it was %s, seq %d, %s", number, r.ID, r.Seq, r.Outcome, was.ID, was.Seq, was.Outcome)
			}
			continue
		}
		last := 0
		for i, e := range r.Events {
			if e.Terminal() {
				last++
			}
			if e.Terminal() != (i == len(r.Events)-1) || e.Seq != r.Seq {
				t.Errorf("record %s: event %d of %d is %+v", r.ID, i+1, len(r.Events), e)
			}
		}
		if last != 1 || r.Events[len(r.Events)-1].Outcome != r.Outcome {
			t.Errorf("record %s: got %d last words, want one that says %s", r.ID, last, r.Outcome)
		}
		r.Events = nil
		s.records[number] = r
	}
}

// of are the records of one pointer, in their order.
func (s *story) of(seq uint64) (out []deployment.Record) {
	for _, number := range slices.Sorted(maps.Keys(s.records)) {
		if s.records[number].Seq == seq {
			out = append(out, s.records[number])
		}
	}
	return out
}

// fits reports whether a record says what must be said of a release of the kind.
func (k kind) fits(r deployment.Record) bool {
	return r.Outcome == k.outcome && strings.Contains(r.Reason, k.reason)
}

// complete demands of all that was published, in this order, that its deployments were recorded, without a gap, and ended as
// they must: with the right outcome, before it at most failures of the store.
func (s *story) complete(t *testing.T, published []kind) {
	t.Helper()
	for number := 1; number <= len(s.records); number++ {
		if _, ok := s.records[number]; !ok {
			t.Errorf("there are %d records, and none has number %d", len(s.records), number)
		}
	}
	total := 0
	for i, k := range published {
		of := s.of(uint64(i + 1))
		total += len(of)
		if len(of) == 0 || !k.fits(of[len(of)-1]) {
			t.Errorf("seq %d, %s: got %+v, want %s, %q at the end", i+1, k.name, of, k.outcome, k.reason)
			continue
		}
		for _, r := range of[:len(of)-1] {
			s.again++
			if r.Outcome != deployment.Failed || !strings.Contains(r.Reason, "fetch") {
				t.Errorf("seq %d, %s: before the end got %+v, want nothing but trouble of the store", i+1, k.name, r)
			}
		}
	}
	if total != len(s.records) {
		t.Errorf("got %d records, of which %d are of what was published", len(s.records), total)
	}
}
