package endurance

import (
	"context"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/towline/towline/internal/bucket"
	"github.com/towline/towline/internal/deployment"
	"github.com/towline/towline/internal/ping"
	"github.com/towline/towline/internal/release"
	"github.com/towline/towline/test/parts"
)

var (
	deployments = flag.Int("deployments", 50, "releases that TestEndurance publishes, one after the other")
	seed        = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the order of bad releases and of the store's troubles")
)

// The agent remembers so many deployments with their events, and so many pointers that it has followed.
const (
	keepRecords  = 100
	keepAccepted = 1000
)

// TestEndurance publishes good and bad releases in turn.
func TestEndurance(t *testing.T) {
	began := time.Now()
	t.Logf("-deployments %d -seed %d", *deployments, *seed)
	store := parts.S3(t)
	name := store.Bucket(t, "releases")
	key, err := release.GenerateKey(nil)
	must(t, err)
	t.Setenv("AWS_ACCESS_KEY_ID", store.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", store.SecretKey)
	direct, err := bucket.Open(t.Context(), bucket.Options{URL: store.URL(name)})
	must(t, err)
	p := &publisher{t: t, bucket: direct, key: key}
	gateway := newShaky(t, store, *seed)
	a := newAgent(t, gateway.url(name), key.Public().String(), store.Env())
	random := rand.New(rand.NewPCG(*seed, 2))
	history := &story{records: map[int]deployment.Record{}}
	var (
		published []kind
		taken     []measured
		lastGood  string
	)
	for i := range *deployments {
		k := good
		if i%2 == 1 {
			k = bad[random.IntN(len(bad))]
		}
		published = append(published, k)
		pointer, hash := p.publish(k)
		seq := p.seq
		a.ring(t, pointer, seq)
		eventually(t, "release "+hash+", which is "+k.name+", ended as it must", 10*time.Minute, func() bool {
			history.read(t, a.detail(t).Deployments)
			of := history.of(seq)
			return len(of) > 0 && k.fits(of[len(of)-1])
		})
		if k.outcome == deployment.Deployed {
			lastGood = hash
		}
		if got := a.live("version"); got != lastGood {
			t.Fatalf("after seq %d, which is %s: got %q live, want %q", seq, k.name, got, lastGood)
		}
		taken = append(taken, a.measure(t))
		if left, _ := filepath.Glob(filepath.Join(a.dir, "web/incoming/*")); k.outcome == deployment.Deployed && len(left) > 0 {
			t.Errorf("after seq %d: left behind: %q", seq, left)
		}
		if len(published)%100 == 0 {
			t.Logf("%d deployments after %v; %s", len(published), time.Since(began).Round(time.Second), gateway.said())
		}
		select {
		case <-a.ended:
			t.Fatal("the agent has ended")
		default:
		}
	}
	history.complete(t, published)
	kept, err := os.ReadDir(filepath.Join(a.dir, "state/apps/web/deployments"))
	must(t, err)
	if want := min(keepRecords, len(history.records)); len(kept) != want {
		t.Errorf("records on the disk: got %d, want %d", len(kept), want)
	}
	listed := a.detail(t).Releases
	if want := min(keepAccepted, len(published)); len(listed) != want {
		t.Errorf("releases that the agent lists: got %d, want %d", len(listed), want)
	} else if listed[0].Seq != p.seq {
		t.Errorf("the newest release that the agent lists: got seq %d, want %d", listed[0].Seq, p.seq)
	}
	// Early is up to the hundredth deployment, or to the half of a short run; the end is as long.
	at := min(100, len(taken)/2)
	table, grown := flat(most(taken[at/2:at]), most(taken[len(taken)-at/2:]), len(published))
	for _, g := range grown {
		t.Errorf("not flat between deployment %d and the end: %s", at, g)
	}
	t.Logf("%d records, numbered without a gap, %d of them tried again after trouble with the store; %s; %v\n%s",
		len(history.records), history.again, gateway.said(), time.Since(began).Round(time.Second), table)
}

// ring pings the agent and listens until the deployment has said its last word.
func (a *agent) ring(t *testing.T, pointer []byte, seq uint64) {
	t.Helper()
	// As from many jobs: the agent hears one address once a second.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+seq%250))}}
	c, err := ping.NewClient(ping.ClientOptions{Dial: from.DialContext})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last := 0
	err = c.Ping(ctx, a.url, a.pin, pointer, "", func(e deployment.Event) {
		if e.Terminal() {
			last++
		}
	})
	if err != nil || last != 1 {
		t.Fatalf("ping: got %v and %d last words, want one", err, last)
	}
}
