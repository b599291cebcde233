package ping

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	addressRate   = rate.Limit(1) // pings a second
	addressBurst  = 5
	allRate       = rate.Limit(10)
	allBurst      = 20
	maxRemembered = 1024 // addresses
)

// limits is a token bucket per remote address and one for all of them. The address is asked first, so that one
// noisy peer does not use up what belongs to all. Only the addresses heard last are remembered.
type limits struct {
	mu      sync.Mutex
	all     *rate.Limiter
	recent  *list.List // of *remote, newest first
	remotes map[string]*list.Element
}

type remote struct {
	address string
	bucket  *rate.Limiter
}

func newLimits() *limits {
	return &limits{
		all:     rate.NewLimiter(allRate, allBurst),
		recent:  list.New(),
		remotes: map[string]*list.Element{},
	}
}

func (l *limits) allow(remoteAddr string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bucket(Peer(remoteAddr)).AllowN(now, 1) && l.all.AllowN(now, 1)
}

func (l *limits) bucket(address string) *rate.Limiter {
	if known := l.remotes[address]; known != nil {
		l.recent.MoveToFront(known)
		return known.Value.(*remote).bucket
	}
	if l.recent.Len() >= maxRemembered {
		oldest := l.recent.Remove(l.recent.Back()).(*remote)
		delete(l.remotes, oldest.address)
	}
	fresh := &remote{address: address, bucket: rate.NewLimiter(addressRate, addressBurst)}
	l.remotes[address] = l.recent.PushFront(fresh)
	return fresh.bucket
}

// Peer is what counts as one peer where something is limited for each of them: the IPv4 address of remoteAddr, or the /64
// that one IPv6 host owns. An address that is not an IP's with a port is returned as it is.
func Peer(remoteAddr string) string {
	port, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return remoteAddr
	}
	address := port.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	return netip.PrefixFrom(address, 64).Masked().String()
}
