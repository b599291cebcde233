package bucket

import (
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// onTheWay is who answers with success in the store's place.
const onTheWay = " (is a captive portal or a proxy on the way?)"

// noPages refuses what a portal or a balancer answers with success in the store's place: a web page. No object of ours is one,
// and to the SDK it is a listing without keys, or the answer to a write. What is behind it may be as good as ever.
func (s *store) noPages(stack *middleware.Stack) error {
	refuse := func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		out middleware.DeserializeOutput, meta middleware.Metadata, err error) {
		out, meta, err = next.HandleDeserialize(ctx, in)
		resp, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok || resp.StatusCode >= http.StatusMultipleChoices || !strings.Contains(resp.Header.Get("Content-Type"), "html") {
			return out, meta, err
		}
		_ = resp.Body.Close()
		resp.Body = http.NoBody // or the SDK reads it to its end, which it may not have
		return out, meta, &fault{text: s.loc.where() + " answered with a web page, not as an S3 store" + onTheWay, kind: ErrUnreachable}
	}
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("NoPages", refuse), middleware.After)
}

// unwritten is the error for a write that was answered with success, but without the id that every store gives. What it was
// to write is not there, as far as anybody knows.
func (s *store) unwritten(what string, id *string) error {
	if strings.Trim(aws.ToString(id), `"`) != "" {
		return nil
	}
	return &fault{text: s.loc.where() + " answered a write without " + what + ", not as an S3 store" + onTheWay, kind: ErrUnreachable}
}
