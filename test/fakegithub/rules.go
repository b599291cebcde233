package fakegithub

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

//go:embed testdata/openapi.json
var description []byte

// rules checks traffic against the description.
type rules struct {
	router  routers.Router
	options *openapi3filter.Options
}

func newRules(base string) (*rules, error) {
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		return nil, fmt.Errorf("load description: %w", err)
	}
	doc.Servers = openapi3.Servers{{URL: base}}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("read description: %w", err)
	}
	address := openapi3.NewCallbackValidator(func(s string) error {
		if u, err := url.Parse(s); err != nil || !u.IsAbs() {
			return fmt.Errorf("not an absolute address: %q", s)
		}
		return nil
	})
	return &rules{router: router, options: &openapi3filter.Options{
		MultiError:              true,
		SkipSettingDefaults:     true,
		SchemaValidationOptions: []openapi3.SchemaValidationOption{openapi3.EnableFormatValidation(), openapi3.WithStringFormatValidator("uri", address)},
	}}, nil
}

// reporter is what a violation is told to: a testing.TB.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// check passes every request on, whether it is right or not, and fails the test when it or its answer is wrong.
func (c *rules) check(t reporter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			t.Errorf("fake github: %s %s: read body: %v", r.Method, r.URL, err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		input, err := c.request(r, body)
		if err != nil {
			t.Errorf("fake github: the request is not what GitHub describes: %s %s: %v", r.Method, r.URL, err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if input != nil {
			if err := c.response(r, input, answer); err != nil {
				t.Errorf("fake github: the answer is not what GitHub describes: %s %s: %d: %v", r.Method, r.URL, answer.Code, err)
			}
		}
		for key, values := range answer.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// request checks a request; the input that it returns is nil when GitHub has no such call.
func (c *rules) request(r *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	// The description names a host, a request only its path.
	full := r.Clone(r.Context())
	full.URL.Scheme, full.URL.Host = "http", r.Host
	route, params, err := c.router.FindRoute(full)
	if err != nil {
		return nil, err
	}
	full.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.RequestValidationInput{Request: full, PathParams: params, Route: route, Options: c.options}
	return input, errors.Join(openapi3filter.ValidateRequest(r.Context(), input), unknown(route.Operation, r, body))
}

// unknown names what GitHub would ignore in silence: fields and query parameters that the description does not have.
func unknown(operation *openapi3.Operation, r *http.Request, body []byte) error {
	var errs []error
	for name := range r.URL.Query() {
		if operation.Parameters.GetByInAndName("query", name) == nil {
			errs = append(errs, fmt.Errorf("unknown query parameter %q", name))
		}
	}
	if operation.RequestBody == nil {
		if len(body) > 0 {
			errs = append(errs, errors.New("a body where none is described"))
		}
		return errors.Join(errs...)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return errors.Join(append(errs, err)...)
	}
	known := operation.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties
	for name := range fields {
		if known[name] == nil {
			errs = append(errs, fmt.Errorf("unknown field %q", name))
		}
	}
	return errors.Join(errs...)
}

// response checks an answer. The description leaves out the statuses that any call may have, 401 and 403 among them:
// those pass.
func (c *rules) response(r *http.Request, input *openapi3filter.RequestValidationInput, answer *httptest.ResponseRecorder) error {
	output := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: answer.Code, Header: answer.Header(), Options: c.options,
	}
	output.SetBodyBytes(answer.Body.Bytes())
	return openapi3filter.ValidateResponse(r.Context(), output)
}
