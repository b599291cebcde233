package bucket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// fault boils an SDK error down to one line with operation, key, bucket and cause, and to what callers act on. ctx is
// the caller's: its own end is told apart from a store that took too long.
func (s *store) fault(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	if key != "" {
		op += " " + key
	}
	text, kind := s.cause(ctx, err)
	if who := (*identityError)(nil); errors.As(err, &who) {
		text = who.hide(text)
	}
	return &fault{text: fmt.Sprintf("%s in bucket %s: %s", op, s.loc.name, text), kind: kind}
}

func (s *store) cause(ctx context.Context, err error) (text string, kind error) {
	var ours *fault
	var who *identityError
	var api smithy.APIError
	var sdk *smithy.OperationError
	switch {
	case errors.As(err, &ours):
		return ours.text, ours.kind
	case ctx.Err() != nil:
		return ctx.Err().Error(), ctx.Err()
	case errors.As(err, &who) && errors.Is(who.err, ErrNoCredentials):
		return who.op + ": " + who.err.Error(), ErrNoCredentials
	case errors.Is(err, ErrNoCredentials):
		return ErrNoCredentials.Error(), ErrNoCredentials
	case errors.As(err, &who) && errors.As(err, &api) && status(err) >= 500:
		return who.op + ": " + apiText(api), ErrUnreachable
	case errors.As(err, &who) && errors.As(err, &api):
		return who.op + ": " + apiText(api), refusedRole(api)
	case errors.As(err, &who) && isNetwork(err):
		return who.op + ": " + innermost(err), ErrUnreachable
	case errors.As(err, &who) && errors.As(who.err, &sdk):
		return who.op + ": " + innermost(who.err), who.err
	case errors.As(err, &who): // the caller's own words, which name the fix
		return who.op + ": " + who.err.Error(), who.err
	}
	if resp := response(err); resp != nil && resp.StatusCode >= 300 {
		return s.refusal(resp, err)
	}
	var odd *smithy.DeserializationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("%s gave no answer within %v", s.loc.where(), small), ErrUnreachable
	case isNetwork(err):
		return s.loc.where() + ": " + innermost(err), ErrUnreachable
	case errors.As(err, &odd):
		return s.loc.where() + ": not an answer of an S3 store", ErrUnreachable
	case errors.As(err, &api):
		return apiText(api), err
	}
	return innermost(err), err
}

// refusedRole tells answers of STS that a person mends at the role, or at its trust policy, from all others.
func refusedRole(api smithy.APIError) error {
	switch api.ErrorCode() {
	case "AccessDenied", "InvalidIdentityToken", "IDPRejectedClaim", "ValidationError":
		return ErrRole
	}
	return fs.ErrPermission
}

// refusal reads an HTTP answer that is no success.
func (s *store) refusal(resp *http.Response, err error) (string, error) {
	var api smithy.APIError
	code, text := "", fmt.Sprintf("HTTP %d", resp.StatusCode)
	if errors.As(err, &api) {
		code = api.ErrorCode()
		text += " " + apiText(api)
	}
	region := resp.Header.Get("X-Amz-Bucket-Region")
	status := resp.StatusCode
	switch {
	case status == http.StatusNotModified:
		return ErrNotModified.Error(), ErrNotModified
	case strings.Contains(resp.Header.Get("Content-Type"), "html"):
		return fmt.Sprintf("%s answered HTTP %d with a web page, not as an S3 store", s.loc.where(), status), ErrUnreachable
	case code == "NoSuchBucket":
		return ErrNoBucket.Error(), ErrNoBucket
	case region != "" && region != s.loc.region && (status == http.StatusMovedPermanently || status == http.StatusBadRequest):
		return fmt.Sprintf("the bucket is in region %s, not %s", region, s.loc.region), ErrNoBucket
	case status < 400:
		return fmt.Sprintf("%s redirects to %q: redirects are not followed", s.loc.where(), resp.Header.Get("Location")), ErrUnreachable
	case code == "RequestTimeTooSkewed": // the SDK has corrected its dates by the store's Date by now, if there was one
		return "access denied: the clock of this machine and the store's differ: " + apiText(api), ErrClock
	case code == "XAdminUserNotFound": // versitygw's word, with 404, for an unknown access key where it has one user
		return "access denied: " + apiText(api), fs.ErrPermission
	case status == http.StatusNotFound && code == "NoSuchVersion":
		return "no such version", fs.ErrNotExist
	case status == http.StatusNotFound:
		return "no such object", fs.ErrNotExist
	case status == http.StatusPreconditionFailed || status == http.StatusConflict:
		return "something else is there", fs.ErrExist
	case status == http.StatusRequestedRangeNotSatisfiable:
		return "the range begins past the end of the object", err
	case status == http.StatusForbidden || status == http.StatusUnauthorized || code == "ExpiredToken" || code == "InvalidToken":
		if code == "" || code == "Forbidden" || code == "AccessDenied" {
			return "access denied", fs.ErrPermission
		}
		return "access denied: " + apiText(api), fs.ErrPermission
	case status == http.StatusNotImplemented:
		return text, errors.ErrUnsupported
	case status >= 500 || status == http.StatusTooManyRequests:
		return s.loc.where() + ": " + text, ErrUnreachable
	}
	return text, err
}

// response gives the HTTP answer that an error stands for, if any.
func response(err error) *http.Response {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil {
		return re.Response.Response
	}
	return nil
}

// status gives the HTTP status that an error stands for, or 0.
func status(err error) int {
	if resp := response(err); resp != nil {
		return resp.StatusCode
	}
	return 0
}

func apiText(api smithy.APIError) string {
	if m := strings.TrimSpace(api.ErrorMessage()); m != "" && m != api.ErrorCode() {
		return api.ErrorCode() + ": " + m
	}
	return api.ErrorCode()
}

func isNetwork(err error) bool {
	var send *smithyhttp.RequestSendError
	var netErr net.Error
	var stall stallError
	var slow slowError
	var errno syscall.Errno
	return errors.As(err, &send) || errors.As(err, &netErr) || errors.As(err, &stall) || errors.As(err, &slow) || errors.As(err, &errno) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// innermost gives the text of the deepest cause that still says what happened.
func innermost(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns):
		return "name not found: " + dns.Name
	case errors.As(err, &cert):
		return cert.Err.Error()
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}
