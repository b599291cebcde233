package bucket

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/towline/towline/internal/release"
)

// Scope is what policies speak of: one environment of one app in one S3 bucket, and one of its servers.
type Scope struct {
	Bucket      string // its name, see Name
	Partition   string // of AWS, as in ARNs, see Name; empty: aws
	Prefix      string // of the app's keys
	Environment string
	Server      string // whose receipt its agent writes; empty: none
}

// Policy is a policy document of S3's language.
type Policy struct {
	Version   string
	Statement []Statement
}

// Statement is one rule of a Policy. All of ours allow; what nothing allows is denied.
type Statement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Principal *Principal `json:",omitempty"` // in bucket policies only
	Action    []string
	Resource  []string
	Condition map[string]map[string]string `json:",omitempty"`
}

// Principal is whom a Statement of a bucket policy speaks of.
type Principal struct{ AWS string }

// String is the document as JSON.
func (p Policy) String() string {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Name gives the name of the S3 bucket that a URL means, in the forms that Open takes, and the partition of AWS that the
// URL's region is in.
func Name(url string) (name, partition string, err error) {
	loc, err := parse(Options{URL: url})
	if err == nil && loc.dir != "" {
		err = errors.New("a directory has no policies")
	}
	if err != nil {
		return "", "", fmt.Errorf("bucket %q: %w", url, err)
	}
	switch {
	case strings.HasPrefix(loc.region, "cn-"):
		return loc.name, "aws-cn", nil
	case strings.HasPrefix(loc.region, "us-gov-"):
		return loc.name, "aws-us-gov", nil
	}
	return loc.name, "aws", nil
}

// The actions that the policies allow, beside aborting an upload.
const (
	putObject  = "s3:PutObject"
	getObject  = "s3:GetObject" // of HEAD too
	listBucket = "s3:ListBucket"
)

// PublisherPolicy is what CI needs at AWS, as the policy of a role or user, and nothing more: create artifacts, release
// objects and history, move the pointer, read all that back and what servers have left. It deletes nothing, writes no
// receipt and sees no other app.
//
// Artifacts and history are created with If-None-Match, always: with this policy S3 itself refuses to overwrite them,
// whoever holds the key. The requests that upload the parts of an object have no such header, and create no object.
//
// Releases are listed, since promote and rollback are told versions and the keys hold a digest too; so are receipts, for
// a status that knows all servers. History is not, it is probed for. The condition on the prefix has an effect beside
// listing: S3 answers 404 for what is absent only to those who may list without one, others get 403. Both answers count
// as absent to the publisher.
func (s Scope) PublisherPolicy() Policy {
	created := []string{s.arn(release.ReleasesPrefix(s.Prefix) + "*"), s.arn(release.HistoryPrefix(s.Prefix, s.Environment) + "*")}
	artifacts := created[:1]
	return policy(
		Statement{Sid: "CreateOnly", Action: []string{putObject}, Resource: created,
			Condition: map[string]map[string]string{"Null": {"s3:if-none-match": "false"}}},
		Statement{Sid: "UploadParts", Action: []string{putObject}, Resource: artifacts,
			Condition: map[string]map[string]string{"Bool": {"s3:ObjectCreationOperation": "false"}}},
		Statement{Sid: "AbortUploads", Action: []string{"s3:AbortMultipartUpload"}, Resource: artifacts},
		Statement{Sid: "MovePointer", Action: []string{putObject}, Resource: []string{s.arn(release.PointerKey(s.Prefix, s.Environment))}},
		Statement{Sid: "Read", Action: []string{getObject}, Resource: s.read(release.ReceiptsPrefix(s.Prefix, s.Environment) + "*")},
		s.lists("ListReleases", release.ReleasesPrefix(s.Prefix)),
		s.lists("ListReceipts", release.ReceiptsPrefix(s.Prefix, s.Environment)),
	)
}

// AgentPolicy is what the agent of Server needs at AWS: read releases, pointer and history, write its own receipt.
func (s Scope) AgentPolicy() Policy {
	if s.Server == "" {
		return policy(Statement{Sid: "Read", Action: []string{getObject}, Resource: s.read()})
	}
	receipt := release.ReceiptKey(s.Prefix, s.Environment, s.Server)
	return policy(
		Statement{Sid: "Read", Action: []string{getObject}, Resource: s.read(receipt)},
		Statement{Sid: "WriteReceipt", Action: []string{putObject}, Resource: []string{s.arn(receipt)}},
	)
}

// BucketPolicy is the same for stores that give rights in the bucket's own policy, to principals as they call them; an
// empty one is left out. What AWS alone knows is left out too: a store that does not know the condition of create-only
// refuses the whole policy. Statements have no Sid, so that several policies can be put together.
func (s Scope) BucketPolicy(publisher, agent string) Policy {
	p := policy()
	add := func(principal string, from Policy) {
		for _, st := range from.Statement {
			switch st.Sid {
			case "UploadParts": // an exception to the condition of CreateOnly
				continue
			case "CreateOnly":
				st.Condition = nil
			}
			st.Sid, st.Principal = "", &Principal{AWS: principal}
			p.Statement = append(p.Statement, st)
		}
	}
	if publisher != "" {
		add(publisher, s.PublisherPolicy())
	}
	if agent != "" {
		add(agent, s.AgentPolicy())
	}
	return p
}

func policy(statements ...Statement) Policy {
	for i := range statements {
		statements[i].Effect = "Allow"
	}
	return Policy{Version: "2012-10-17", Statement: statements}
}

// read names what both halves read, and more.
func (s Scope) read(more ...string) []string {
	var out []string
	for _, key := range append([]string{release.ReleasesPrefix(s.Prefix) + "*", release.PointerKey(s.Prefix, s.Environment),
		release.HistoryPrefix(s.Prefix, s.Environment) + "*"}, more...) {
		out = append(out, s.arn(key))
	}
	return out
}

func (s Scope) lists(sid, prefix string) Statement {
	return Statement{Sid: sid, Action: []string{listBucket}, Resource: []string{s.arn("")},
		Condition: map[string]map[string]string{"StringLike": {"s3:prefix": prefix + "*"}}}
}

// arn names an object, or with key "" the bucket.
func (s Scope) arn(key string) string {
	arn := "arn:" + cmp.Or(s.Partition, "aws") + ":s3:::" + s.Bucket
	if key == "" {
		return arn
	}
	return arn + "/" + key
}
