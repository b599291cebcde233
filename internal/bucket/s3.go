package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
)

// small is the time that a call on one small object may take, retries included.
const small = 30 * time.Second

// store is a bucket on an S3 endpoint.
type store struct {
	client   *s3.Client
	loc      location
	log      *slog.Logger
	unquoted atomic.Bool // this store was seen to take ETags in conditions only without quotes
}

func openS3(ctx context.Context, loc location, o Options) (*store, error) {
	if (o.AccessKeyID == "") != (o.SecretAccessKey == "") {
		return nil, errors.New("access key id and secret access key: want both or none")
	}
	if o.AccessKeyID == "" && o.RoleARN != "" && o.IDToken == nil {
		return nil, fmt.Errorf("role %s: no OIDC token to assume it with", o.RoleARN)
	}
	client, err := newClient(o.CABundle)
	if err != nil {
		return nil, err
	}
	load := []func(*config.LoadOptions) error{config.WithHTTPClient(client)}
	if o.AccessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretAccessKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	// The SDK may have added a CA bundle from its environment to the transport. Redirects are handed back as
	// answers, so that no signed request goes to a host that was not configured.
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = &http.Client{
			Transport:     watch{base: b.GetTransport(), stall: o.stall, log: o.Log},
			CheckRedirect: notFollowed,
		}
	}
	s := &store{loc: loc, log: o.Log}
	s.client = s3.NewFromConfig(cfg, func(so *s3.Options) {
		if loc.endpoint != "" {
			so.BaseEndpoint = &loc.endpoint
		}
		s.loc.endpoint = aws.ToString(so.BaseEndpoint) // the SDK knows endpoints from its own environment too
		custom := s.loc.custom()
		if s.loc.region == "" {
			s.loc.region = so.Region
		}
		if s.loc.region == "" && custom {
			s.loc.region = "us-east-1"
		}
		so.Region, cfg.Region = s.loc.region, s.loc.region
		so.APIOptions = append(so.APIOptions, brief, s.noPages)
		so.UsePathStyle = custom
		if loc.pathStyle != nil {
			so.UsePathStyle = *loc.pathStyle
		}
		if custom {
			so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		so.DisableLogOutputChecksumValidationSkipped = true
		so.Retryer = retry.NewStandard(func(ro *retry.StandardOptions) {
			ro.MaxAttempts, ro.MaxBackoff = 3, 2*o.stall
			// A condition that met another write in flight: the next attempt sees its end.
			ro.Retryables = append(ro.Retryables, retry.RetryableErrorCode{
				Codes: map[string]struct{}{"ConditionalRequestConflict": {}, "OperationAborted": {}},
			}, retry.RetryableHTTPStatusCode{
				Codes: map[int]struct{}{http.StatusTooManyRequests: {}}, // whatever its code is; the SDK goes by that alone
			})
		})
		cfg.Retryer = func() aws.Retryer { return so.Retryer }
		so.Credentials = identity(cfg, o, custom)
	})
	if exposed(s.loc.endpoint) {
		o.Log.Warn("plain http to the bucket: the key is not sent, but whoever is on the way reads releases and receipts and can hold "+
			"requests back; use https", "endpoint", s.loc.endpoint)
	}
	if s.loc.region == "" {
		return nil, errors.New("no region: set region= in the URL, aws-region, or AWS_REGION")
	}
	return s, nil
}

// newClient gives the SDK's HTTP client with shorter dialling, and with bundle trusted beside the system's roots.
func newClient(bundle []byte) (*awshttp.BuildableClient, error) {
	client := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) { d.Timeout = 10 * time.Second })
	if len(bundle) == 0 {
		return client, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, errors.New("CA bundle: no certificate in it")
	}
	return client.WithTransportOptions(func(tr *http.Transport) {
		if tr.TLSClientConfig == nil {
			tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		tr.TLSClientConfig.RootCAs = pool
	}), nil
}

// brief leaves out the SDK's headers about its own attempts: no store needs them, and they are an eighth of a poll's bytes.
func brief(stack *middleware.Stack) error {
	_, _ = stack.Build.Remove("ClientRequestID")
	_, _ = stack.Finalize.Remove("RetryMetricsHeader")
	return nil
}

// identity chooses who we are: the given key, else the role, else the SDK's default chain, whose last resort, the
// instance metadata, is left out where the store is not AWS.
func identity(cfg aws.Config, o Options, custom bool) aws.CredentialsProvider {
	if o.AccessKeyID == "" && o.RoleARN != "" {
		client := sts.NewFromConfig(cfg, func(so *sts.Options) {
			so.Credentials = nil
			so.HTTPClient = private{so.HTTPClient}
		})
		return aws.NewCredentialsCache(&role{client: client, arn: o.RoleARN, token: o.IDToken})
	}
	metadata := aws.IsCredentialsProvider(cfg.Credentials, (*ec2rolecreds.Provider)(nil))
	if cfg.Credentials == nil || (metadata && custom) {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, ErrNoCredentials
		})
	}
	chain := cfg.Credentials
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := chain.Retrieve(ctx)
		if err != nil && metadata && ctx.Err() == nil {
			return c, ErrNoCredentials // nothing named any credentials, and this is no cloud instance with a role
		}
		if err != nil {
			return c, &identityError{op: "get credentials", err: err}
		}
		return c, nil
	})
}

// role assumes a role with a fresh OIDC token each time its credentials run out.
type role struct {
	client *sts.Client
	arn    string
	token  func(ctx context.Context, audience string) (string, error)
}

// jwt hands one token to the SDK.
type jwt string

func (j jwt) GetIdentityToken() ([]byte, error) { return []byte(j), nil }

func (r *role) Retrieve(ctx context.Context) (aws.Credentials, error) {
	token, err := r.token(ctx, "sts.amazonaws.com")
	if err != nil {
		return aws.Credentials{}, &identityError{op: "get an OIDC token for role " + r.arn, err: err}
	}
	token = strings.TrimSpace(token)
	c, err := stscreds.NewWebIdentityRoleProvider(r.client, r.arn, jwt(token),
		func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = "towline" }).Retrieve(ctx)
	if err != nil {
		return c, &identityError{op: "assume role " + r.arn, err: err, secret: token}
	}
	return c, nil
}

// identityError tells trouble in becoming somebody from trouble with the bucket.
type identityError struct {
	op     string
	err    error
	secret string // what was sent; whoever answered may have put it into err
}

// hide takes the secret out of another's words.
func (e *identityError) hide(text string) string {
	if e.secret == "" {
		return text
	}
	return strings.ReplaceAll(text, e.secret, "***")
}

func (e *identityError) Error() string { return e.op + ": " + e.err.Error() }
func (e *identityError) Unwrap() error { return e.err }

// RetryableError tells the SDK that whoever failed has already retried.
func (e *identityError) RetryableError() bool { return false }
