package port

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"
)

// Recent answers with what h answered last, unless that is older than age: strangers who ask all the time cost no more
// than one who asks now and then. What h does is not cut short when the one who asks first goes away, since all get its
// answer; it must end by itself. The answer must not depend on who asks, or how.
func Recent(h http.Handler, age time.Duration) http.Handler {
	r := &recent{h: h, age: age}
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		answer := r.get(request)
		for name, values := range answer.header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.status)
		_, _ = w.Write(answer.body.Bytes())
	})
}

type recent struct {
	h   http.Handler
	age time.Duration

	mu   sync.Mutex // held while h works: whoever comes meanwhile waits for its answer
	at   time.Time
	last *recording
}

func (r *recent) get(request *http.Request) *recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || time.Since(r.at) >= r.age {
		fresh := &recording{header: http.Header{}, status: http.StatusOK}
		r.h.ServeHTTP(fresh, request.WithContext(context.WithoutCancel(request.Context())))
		r.last, r.at = fresh, time.Now()
	}
	return r.last
}

// recording is an answer kept. It is not changed once it is made.
type recording struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recording) Header() http.Header         { return r.header }
func (r *recording) WriteHeader(status int)      { r.status = status }
func (r *recording) Write(p []byte) (int, error) { return r.body.Write(p) }
