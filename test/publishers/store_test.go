package publishers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is what a store minds.
type kind struct {
	create bool // If-None-Match: * is honoured
	match  bool // If-Match is honoured
}

func (k kind) String() string {
	switch {
	case k.create && k.match:
		return "all conditions"
	case k.create:
		return "create-only alone"
	case k.match:
		return "If-Match alone"
	}
	return "no conditions"
}

// object is one state of what lies at a key.
type object struct {
	data []byte
	tag  int
}

// store is a bucket in memory. Every operation takes a random time on its way there and on its way back.
type store struct {
	kind    kind
	latency time.Duration // the longest of one way

	mu      sync.Mutex
	dice    *rand.Rand
	objects map[string]object
	next    int
	writes  int
}

func newStore(k kind, latency time.Duration, seed uint64) *store {
	return &store{kind: k, latency: latency, dice: rand.New(rand.NewPCG(seed, 0)), objects: map[string]object{}}
}

// travel is one way of a request. Some are far slower than others.
func (s *store) travel(ctx context.Context) error {
	s.mu.Lock()
	d := time.Duration(s.dice.Int64N(int64(s.latency)))
	if s.dice.IntN(4) > 0 {
		d /= 20
	}
	s.mu.Unlock()
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// do carries out f between the two ways.
func (s *store) do(ctx context.Context, f func() error) error {
	if err := s.travel(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	err := f()
	s.mu.Unlock()
	if lost := s.travel(ctx); lost != nil {
		return lost
	}
	return err
}

func (s *store) put(key string, data []byte) string {
	s.next++
	s.writes++
	s.objects[key] = object{bytes.Clone(data), s.next}
	return fmt.Sprint(s.next)
}

func (s *store) Check(context.Context) error { return nil }

func (s *store) Get(ctx context.Context, key string, _ int64) (data []byte, etag string, err error) {
	err = s.do(ctx, func() error {
		o, ok := s.objects[key]
		if !ok {
			return fmt.Errorf("get %s: %w", key, fs.ErrNotExist)
		}
		data, etag = bytes.Clone(o.data), fmt.Sprint(o.tag)
		return nil
	})
	return data, etag, err
}

func (s *store) Size(ctx context.Context, key string) (size int64, err error) {
	err = s.do(ctx, func() error {
		o, ok := s.objects[key]
		if !ok {
			return fmt.Errorf("stat %s: %w", key, fs.ErrNotExist)
		}
		size = int64(len(o.data))
		return nil
	})
	return size, err
}

func (s *store) Create(ctx context.Context, key string, data []byte, _ string) error {
	return s.do(ctx, func() error {
		if _, ok := s.objects[key]; ok && s.kind.create {
			return fmt.Errorf("create %s: %w", key, fs.ErrExist)
		}
		s.put(key, data)
		return nil
	})
}

func (s *store) Replace(ctx context.Context, key string, data []byte, etag string) (now string, err error) {
	err = s.do(ctx, func() error {
		o, ok := s.objects[key]
		minded := s.kind.match
		if etag == "" {
			minded = s.kind.create
		}
		switch {
		case minded && ok != (etag != ""), minded && ok && fmt.Sprint(o.tag) != etag:
			return fmt.Errorf("replace %s: %w", key, fs.ErrExist)
		}
		now = s.put(key, data)
		return nil
	})
	return now, err
}

func (s *store) Upload(ctx context.Context, key string, r io.ReaderAt, size int64, contentType string, progress func(int64)) error {
	data, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	if err != nil {
		return err
	}
	progress(size)
	return s.Create(ctx, key, data, contentType)
}

func (s *store) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = s.do(ctx, func() error {
		for key := range s.objects {
			if strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		return nil
	})
	return keys, err
}

// look reads an object without any way, nil when there is none.
func (s *store) look(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key].data
}

// place writes an object as a person does, who minds nothing.
func (s *store) place(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, data)
}
