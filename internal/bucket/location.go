package bucket

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// location is a parsed bucket URL: either dir, or name with the rest.
type location struct {
	dir       string // absolute path
	name      string
	region    string // empty: to be found by the SDK's chain
	endpoint  string // empty: AWS
	pathStyle *bool  // nil: as custom says
}

var (
	bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)
	regionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	awsHost    = regexp.MustCompile(`(^|\.)amazonaws\.com(\.cn)?$`)
)

// parameters of an s3:// URL.
var parameters = []string{"region", "endpoint", "path-style"}

func parse(o Options) (location, error) {
	if o.URL == "" {
		return location{}, errors.New("empty: want a bucket name, s3://name or file:///dir")
	}
	if !strings.Contains(o.URL, "://") {
		return parseS3(o.URL, nil, o)
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return location{}, errors.Unwrap(err)
	}
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return location{}, err
	case u.User != nil:
		return location{}, errors.New("credentials do not belong in the URL")
	case u.Fragment != "":
		return location{}, fmt.Errorf("unexpected #%s", u.Fragment)
	case u.Scheme == "file":
		return parseFile(u, query)
	case u.Scheme == "s3" && strings.Trim(u.Path, "/") != "":
		return location{}, fmt.Errorf("path %q: the URL names only the bucket, a key prefix is set by prefix", u.Path)
	case u.Scheme == "s3":
		return parseS3(u.Host, query, o)
	}
	return location{}, fmt.Errorf("unknown scheme %q: want s3://name or file:///dir", u.Scheme)
}

func parseFile(u *url.URL, query url.Values) (location, error) {
	for key := range query {
		return location{}, fmt.Errorf("unknown parameter %q: file:// takes none", key)
	}
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return location{}, errors.New("want an absolute path after three slashes, as in file:///srv/bucket")
	}
	return location{dir: filepath.Clean(u.Path)}, nil
}

func parseS3(name string, query url.Values, o Options) (location, error) {
	for key, values := range query {
		if !slices.Contains(parameters, key) {
			return location{}, fmt.Errorf("unknown parameter %q: known are %s", key, strings.Join(parameters, ", "))
		}
		if len(values) > 1 {
			return location{}, fmt.Errorf("parameter %q is given twice", key)
		}
	}
	if !bucketName.MatchString(name) {
		return location{}, fmt.Errorf("%q is not a bucket name: 3 to 63 of a-z 0-9 . -", name)
	}
	loc := location{name: name, region: o.Region, endpoint: o.Endpoint, pathStyle: o.PathStyle}
	if v := query.Get("region"); v != "" {
		loc.region = v
	}
	if loc.region != "" && !regionName.MatchString(loc.region) {
		return location{}, fmt.Errorf("%q is not a region", loc.region)
	}
	if v := query.Get("endpoint"); v != "" {
		loc.endpoint = v
	}
	if loc.endpoint != "" {
		if err := checkEndpoint(loc.endpoint, name); err != nil {
			return location{}, err
		}
		loc.endpoint = strings.TrimRight(loc.endpoint, "/")
	}
	if v := query.Get("path-style"); v != "" {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return location{}, fmt.Errorf("path-style %q: want true or false", v)
		}
		loc.pathStyle = &on
	}
	return loc, nil
}

func checkEndpoint(endpoint, name string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "":
		return fmt.Errorf("endpoint %q: want a URL such as https://s3.example.com", endpoint)
	case u.User != nil:
		return errors.New("endpoint: credentials do not belong in the URL")
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("endpoint %q: want no query", endpoint)
	case strings.HasPrefix(u.Host, name+"."):
		return fmt.Errorf("endpoint %q begins with the bucket's name: want %s://%s", endpoint, u.Scheme, strings.TrimPrefix(u.Host, name+"."))
	}
	return nil
}

// custom reports a store that is not AWS: no instance metadata, no checksums but the required ones, path style unless
// told otherwise.
func (l location) custom() bool {
	u, err := url.Parse(l.endpoint)
	return err == nil && l.endpoint != "" && !awsHost.MatchString(u.Hostname())
}

// where names the store in error texts.
func (l location) where() string {
	if l.endpoint != "" {
		return l.endpoint
	}
	return "AWS S3 in " + l.region
}

func (l location) String() string {
	if l.dir != "" {
		return (&url.URL{Scheme: "file", Path: l.dir}).String()
	}
	query := url.Values{}
	if l.region != "" {
		query.Set("region", l.region)
	}
	if l.endpoint != "" {
		query.Set("endpoint", l.endpoint)
	}
	if l.pathStyle != nil {
		query.Set("path-style", strconv.FormatBool(*l.pathStyle))
	}
	text := "s3://" + l.name
	if len(query) > 0 {
		text += "?" + strings.NewReplacer("%3A", ":", "%2F", "/").Replace(query.Encode())
	}
	return text
}
