package fakegithub

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"time"
)

// Issuer is who the tokens say they are of.
const Issuer = "https://token.actions.githubusercontent.com"

const keyID = "fake"

func newIssuer() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// Subject is the sub of the issuer's tokens: of a push to main, in the form without ids.
func (s *Server) Subject() string { return "repo:" + s.options.Repository + ":ref:refs/heads/main" }

// idToken answers as the runner's token service does: a token for the audience asked for, signed with RS256.
func (s *Server) idToken(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+IDRequestToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	owner, _, _ := strings.Cut(s.options.Repository, "/")
	audience := r.URL.Query().Get("audience")
	if audience == "" {
		audience = "https://github.com/" + owner
	}
	now := s.options.Now()
	workflow := s.options.Repository + "/.github/workflows/deploy.yml@refs/heads/main"
	signed := encode(object{"alg": "RS256", "typ": "JWT", "kid": keyID}) + "." + encode(object{
		"iss": Issuer, "aud": audience, "sub": s.Subject(), "jti": rand.Text(),
		"repository": s.options.Repository, "repository_id": "4711", "repository_owner": owner, "repository_owner_id": "42",
		"ref": "refs/heads/main", "event_name": "push", "workflow_ref": workflow, "job_workflow_ref": workflow,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.issuer(), crypto.SHA256, digest[:])
	if err != nil {
		panic(err) // the key is ours
	}
	token := signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	write(w, http.StatusOK, object{"count": len(token), "value": token})
}

// keys answers as the issuer's key set does.
func (s *Server) keys(w http.ResponseWriter, _ *http.Request) {
	key := s.issuer().PublicKey
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	write(w, http.StatusOK, object{"keys": []object{{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": keyID, "n": number(key.N), "e": number(big.NewInt(int64(key.E))),
	}}})
}

func encode(v object) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own values come here
	}
	return base64.RawURLEncoding.EncodeToString(data)
}
