package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// IDToken asks the runner's token service for an OIDC token for audience. requestURL and requestToken are
// ACTIONS_ID_TOKEN_REQUEST_URL and _TOKEN, which a job has only with `permissions: id-token: write`; without them the
// error wraps fs.ErrPermission. Neither token nor address appears in errors.
func IDToken(ctx context.Context, requestURL, requestToken, audience string) (string, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	return idToken(ctx, newRetry(transport, slog.New(slog.DiscardHandler)), requestURL, requestToken, audience)
}

func idToken(ctx context.Context, transport http.RoundTripper, requestURL, requestToken, audience string) (string, error) {
	operation := "get id token for " + audience
	if requestURL == "" || requestToken == "" {
		return "", fmt.Errorf("%s: the job may not have one: it needs `permissions: id-token: write`: %w", operation, fs.ErrPermission)
	}
	u, err := url.Parse(requestURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%s: ACTIONS_ID_TOKEN_REQUEST_URL is not an address", operation)
	}
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", fmt.Errorf("%s: ACTIONS_ID_TOKEN_REQUEST_URL is not an address", operation)
	}
	request.Header.Set("Authorization", "Bearer "+requestToken)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", agent)
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", operation, err)
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return "", fmt.Errorf("%s: answered %s: the job needs `permissions: id-token: write`: %w", operation, response.Status, fs.ErrPermission)
	case code != http.StatusOK:
		return "", fmt.Errorf("%s: answered %s", operation, response.Status)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 2*maxToken)).Decode(&answer); err != nil || answer.Value == "" {
		return "", fmt.Errorf("%s: the answer holds no token", operation)
	}
	return answer.Value, nil
}
