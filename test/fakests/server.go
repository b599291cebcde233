// Package fakests is the one call of AWS's STS that Towline makes, AssumeRoleWithWebIdentity, over TLS.
//
// It does what STS does with a token: it fetches the issuer's keys, verifies the RS256 signature, and compares issuer,
// audience, times and subject with the trust policy of the role. Who asks in another form than the SDKs do, or in plain
// HTTP, fails the test.
package fakests

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Audience is the aud that tokens must have.
const Audience = "sts.amazonaws.com"

// Options make a Server.
type Options struct {
	Role    string // ARN of the only role
	Issuer  string // iss of the provider that it trusts
	KeysURL string // where that has its key set
	Subject string // sub that the role's trust policy asks for

	AccessKeyID, SecretAccessKey, SessionToken string // the credentials that the role has
}

// Server is a running fake. Its methods may be called from any goroutine.
type Server struct {
	URL string // as in AWS_ENDPOINT_URL_STS
	CA  []byte // certificate authority of URL, PEM

	t       testing.TB
	options Options

	mu       sync.Mutex
	sessions []string // names of the sessions that were granted
	refused  int
}

// New starts a server that ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, options: o}
	server := httptest.NewTLSServer(http.HandlerFunc(s.answer))
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return s
}

// Sessions are the names of the sessions that were granted, and how many were refused.
func (s *Server) Sessions() (granted []string, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.sessions...), s.refused
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "" {
		s.t.Errorf("fake sts: %s %s: %v, want POST / with a form", r.Method, r.URL, err)
	}
	if r.Header.Get("Authorization") != "" {
		s.t.Error("fake sts: the request is signed, and nobody has a key yet")
	}
	form := r.PostForm
	for name, want := range map[string]string{"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15"} {
		if got := form.Get(name); got != want {
			s.t.Errorf("fake sts: %s: got %q, want %q", name, got, want)
		}
	}
	session := form.Get("RoleSessionName")
	if len(session) < 2 || len(session) > 64 {
		s.t.Errorf("fake sts: RoleSessionName: got %q, want 2 to 64 characters", session)
	}
	claims, err := s.verify(r, form.Get("WebIdentityToken"))
	switch {
	case err != nil:
		s.refuse(w, http.StatusBadRequest, "InvalidIdentityToken", err.Error())
	case form.Get("RoleArn") != s.options.Role || claims.Subject != s.options.Subject:
		s.refuse(w, http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	default:
		s.mu.Lock()
		s.sessions = append(s.sessions, session)
		s.mu.Unlock()
		s.grant(w, claims, session)
	}
}

func (s *Server) grant(w http.ResponseWriter, c claims, session string) {
	o := s.options
	account := strings.Split(o.Role+"::::", ":")[4]
	name := o.Role[strings.LastIndex(o.Role, "/")+1:]
	type credentials struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
	var answer struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
		Result  struct {
			SubjectFromWebIdentityToken, Audience, Provider string
			AssumedRoleUser                                 struct{ Arn, AssumedRoleId string }
			Credentials                                     credentials
		} `xml:"AssumeRoleWithWebIdentityResult"`
		RequestId string `xml:"ResponseMetadata>RequestId"`
	}
	answer.Result.SubjectFromWebIdentityToken, answer.Result.Audience, answer.Result.Provider = c.Subject, c.Audience, o.Issuer
	answer.Result.AssumedRoleUser.Arn = fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", account, name, session)
	answer.Result.AssumedRoleUser.AssumedRoleId = "AROAFAKE:" + session
	answer.Result.Credentials = credentials{o.AccessKeyID, o.SecretAccessKey, o.SessionToken, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
	answer.RequestId = "1"
	write(w, http.StatusOK, answer)
}

func (s *Server) refuse(w http.ResponseWriter, status int, code, message string) {
	s.mu.Lock()
	s.refused++
	s.mu.Unlock()
	var answer struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Error   struct{ Type, Code, Message string }
	}
	answer.Error.Type, answer.Error.Code, answer.Error.Message = "Sender", code, message
	write(w, status, answer)
}

func write(w http.ResponseWriter, status int, answer any) {
	data, err := xml.Marshal(answer)
	if err != nil {
		panic(err) // only our own values come here
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// claims are those that count.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	From     int64  `json:"nbf"`
	Until    int64  `json:"exp"`
}

// verify gives the claims of a token that the issuer signed and that holds now.
func (s *Server) verify(r *http.Request, token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("the token has not three parts")
	}
	var header struct{ Alg, Kid string }
	if err := errors.Join(decode(parts[0], &header), decode(parts[1], &c)); err != nil {
		return c, err
	}
	key, err := s.key(r, header.Kid)
	if err != nil {
		return c, err
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := time.Now().Unix()
	switch {
	case err != nil:
		return c, err
	case header.Alg != "RS256":
		return c, fmt.Errorf("algorithm %q", header.Alg)
	case rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil:
		return c, errors.New("the signature is not the issuer's")
	case c.Issuer != s.options.Issuer:
		return c, errors.New("no OpenIDConnect provider found for the issuer")
	case c.Audience != Audience:
		return c, errors.New("incorrect token audience")
	case now < c.From || now >= c.Until:
		return c, errors.New("the token is not valid now")
	}
	return c, nil
}

func decode(part string, into any) error {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// key fetches the issuer's key.
func (s *Server) key(r *http.Request, id string) (*rsa.PublicKey, error) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, s.options.KeysURL, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var set struct {
		Keys []struct{ Kty, Kid, N, E string }
	}
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		return nil, err
	}
	for _, k := range set.Keys {
		n, nerr := base64.RawURLEncoding.DecodeString(k.N)
		e, eerr := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kid == id && k.Kty == "RSA" && nerr == nil && eerr == nil {
			return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
		}
	}
	return nil, fmt.Errorf("the issuer has no key %q", id)
}
