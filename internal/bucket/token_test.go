package bucket

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever answers for STS has the token; no answer of his gets it into a log.
func TestNoAnswerOfSTSShowsTheToken(t *testing.T) {
	isolate(t)
	const token = "header.claims-and-more.signature"
	for name, answer := range map[string]http.HandlerFunc{
		"refusal": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>you sent %s</Message></Error></ErrorResponse>`, token)
		},
		"code": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `<ErrorResponse><Error><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, token)
		},
		"trouble": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `<ErrorResponse><Error><Code>InternalFailure</Code><Message>while reading %s</Message></Error></ErrorResponse>`, token)
		},
		"redirect": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://other.example/"+token)
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"no XML": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<"+token+" "+token) },
		"odd time": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><Expiration>%s</Expiration>`+
				`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, token)
		},
	} {
		t.Run(name, func(t *testing.T) {
			sts := httptest.NewServer(answer)
			defer sts.Close()
			t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
			b, err := Open(t.Context(), Options{URL: "app-bucket", Region: "us-east-1", RoleARN: "arn:aws:iam::123456789012:role/deploys",
				IDToken: func(context.Context, string) (string, error) { return token + "\n", nil }})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = b.Get(t.Context(), "k", 10)
			if err == nil || !strings.Contains(err.Error(), "assume role arn:aws:iam::123456789012:role/deploys: ") {
				t.Errorf("got error %v, want one of the role", err)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}
