package bucket

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// What goes in one request does; what is larger goes in parts, several at a time, and a part that the store refuses for now is
// sent again, alone.
func TestPartsSideBySideAndAgain(t *testing.T) {
	const count = 6
	var (
		mu       sync.Mutex
		single   int // objects in one request
		tries    = map[int]int{}
		busy     int // parts in flight
		most     int // of them, at most
		together = make(chan struct{})
		order    []int // of the parts, as completed
	)
	meet := sync.OnceFunc(func() { close(together) })
	part := func(w http.ResponseWriter, r *http.Request) {
		number, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
		n, _ := io.Copy(io.Discard, r.Body)
		mu.Lock()
		tries[number]++
		again := tries[number] > 1
		busy++
		if most = max(most, busy); busy == workers {
			meet()
		}
		mu.Unlock()
		select { // the first parts wait for each other
		case <-together:
		case <-r.Context().Done():
		}
		mu.Lock()
		busy--
		mu.Unlock()
		if want := int64(partSize); n != want && number != count {
			t.Errorf("part %d: got %d bytes, want %d", number, n, want)
		}
		if number == 2 && !again {
			refuse(w, http.StatusServiceUnavailable, "SlowDown", "not so fast")
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%032x"`, number))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodGet:
			refuse(w, http.StatusForbidden, "AccessDenied", "no listing")
		case r.Method == http.MethodPost && query.Has("uploads"):
			fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPost:
			var done struct {
				Part []struct{ PartNumber int }
			}
			if err := xml.NewDecoder(r.Body).Decode(&done); err != nil {
				t.Error(err)
			}
			for _, p := range done.Part {
				order = append(order, p.PartNumber)
			}
			fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
		case r.Method == http.MethodPut && query.Has("partNumber"):
			part(w, r)
		case r.Method == http.MethodPut:
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"s"`)
			single++
		default:
			t.Errorf("got %s %s", r.Method, r.URL)
		}
	}))
	t.Cleanup(server.Close)
	s, err := Open(t.Context(), Options{URL: "app-bucket", Endpoint: server.URL, AccessKeyID: "id", SecretAccessKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Upload(t.Context(), "small", bytes.NewReader(make([]byte, singleMax)), singleMax, "", nil); err != nil || single != 1 {
		t.Errorf("%d bytes: got %v, %d requests for the object, want one", singleMax, err, single)
	}
	size := int64(count-1)*partSize + 100
	var told []int64
	if err := s.Upload(t.Context(), "large", bytes.NewReader(make([]byte, size)), size, "", func(done int64) { told = append(told, done) }); err != nil {
		t.Fatal(err)
	}
	if most != workers || most < 2 {
		t.Errorf("parts in flight: got %d at most, want %d, several", most, workers)
	}
	for number := 1; number <= count; number++ {
		if want := map[bool]int{true: 2, false: 1}[number == 2]; tries[number] != want {
			t.Errorf("part %d was sent %d times, want %d", number, tries[number], want)
		}
	}
	if !slices.Equal(order, []int{1, 2, 3, 4, 5, 6}) {
		t.Errorf("completed with parts %v, want all in order", order)
	}
	if len(told) != count || !slices.IsSorted(told) || told[count-1] != size {
		t.Errorf("progress: got %v, want %d steps up to %d", told, count, size)
	}
}
