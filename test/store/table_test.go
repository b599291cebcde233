package store

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

var rounds = flag.Int("rounds", 3, "deployments of the mixture, twenty to a server")

const perServer = 20

const (
	small  = 10 << 10
	medium = 3 << 20
)

// TestMain lets many rows run at once: what they do most is wait.
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		_ = flag.Set("test.parallel", "32")
	}
	os.Exit(m.Run())
}

// TestMisbehavingStore is the table: each misbehaviour at each party.
func TestMisbehavingStore(t *testing.T) {
	w := newWorld(t)
	t.Run("stale reads", func(t *testing.T) { t.Parallel(); staleReads(t, w.site(t, "stale")) })
	t.Run("store away", func(t *testing.T) { t.Parallel(); storeAway(t, w.site(t, "away")) })
	for i, left := 1, *rounds; left > 0; i, left = i+1, left-perServer {
		name := fmt.Sprintf("mixture-%d", i)
		t.Run("mixture/"+strconv.Itoa(i), func(t *testing.T) { t.Parallel(); mixture(t, w.site(t, name), min(left, perServer)) })
	}
	for _, row := range fetching {
		t.Run("fetching/"+row.name, func(t *testing.T) { t.Parallel(); row.run(t, w.site(t, "fetch-"+slug(row.name))) })
	}
	for _, row := range publishing {
		t.Run("publisher/"+row.name, func(t *testing.T) { t.Parallel(); row.run(t, w.site(t, "pub-"+slug(row.name))) })
	}
	for _, row := range polling {
		t.Run("polling/"+row.name, func(t *testing.T) { t.Parallel(); row.run(t, w.site(t, "poll-"+slug(row.name))) })
	}
}

func slug(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}
