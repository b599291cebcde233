package threats

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"
)

// ring posts a ping through the agent's socket, where strangers never come and nothing is limited, and returns the status:
// a signature is asked for there too.
func (d *daemon) ring(body []byte) int {
	d.t.Helper()
	return post(d.t, "http://agent/v1/ping", body, &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.SocketPath())
		},
	})
}

// knock posts a ping at the port, as a stranger does who checks no pin.
func (d *daemon) knock(body []byte) int {
	d.t.Helper()
	return post(d.t, "https://"+d.Addr()+"/v1/ping", body, &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	})
}

func post(t *testing.T, url string, body []byte, transport *http.Transport) int {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: transport}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
