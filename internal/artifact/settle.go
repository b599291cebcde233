package artifact

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// When what was written is sent to the disk, before all of it is there. Files and the blocks that describe them count against a control group's
// memory until they are on the disk, and nothing else takes them there in time: the kernel's own measure is the whole machine's
// memory. The disk works meanwhile, and the sync before the switch finds less to do.
const (
	settleBytes = 16 << 20
	settleFiles = 4096
)

// settler sends what was written to the disk, as it goes. That is for memory and time: what makes a release durable is the
// sync when all of it is there, whose descriptor hears of errors that came before.
type settler struct {
	site  *site
	bytes atomic.Int64
	files atomic.Int64
	due   chan struct{}
	wg    sync.WaitGroup
}

// start begins to wait for what is due; failed is told of an error.
func (s *settler) start(site *site, failed func(error)) {
	s.site, s.due = site, make(chan struct{}, 1)
	s.wg.Go(func() {
		for range s.due {
			if err := unix.Syncfs(s.site.fd); err != nil {
				failed(diskError{os.NewSyscallError("unpack: syncfs", err)})
			}
		}
	})
}

// wrote counts a file, or a slice of one.
func (s *settler) wrote(bytes int64) {
	if b, f := s.bytes.Add(bytes), s.files.Add(1); b < settleBytes && f < settleFiles {
		return
	}
	s.bytes.Store(0)
	s.files.Store(0)
	select {
	case s.due <- struct{}{}:
	default: // it is at it
	}
}

// stop waits for what is begun. Nothing may be counted any more.
func (s *settler) stop() {
	close(s.due)
	s.wg.Wait()
}
