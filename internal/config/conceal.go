package config

import (
	"net/url"
	"regexp"
	"strings"
)

// What is wrong in a file is shown with its line, in a terminal and in the journal, and what is wrong may be that a secret
// stands there: a private key in the place of a public one, a key that belongs into a file.
var (
	privateKey = regexp.MustCompile(`towline-secret-[^\s"',\]}]*`)
	password   = regexp.MustCompile(`(://)[^/@\s"']*@`)
	named      = regexp.MustCompile(`(?i)((?:secret|token|password|webhook)\w*)(["']?\s*:\s*)[^\s,}][^,}]*`)
)

// conceal hides what looks like a secret in a line of a file. What comes before keeps its place.
func conceal(line string) string {
	line = named.ReplaceAllStringFunc(line, func(found string) string {
		part := named.FindStringSubmatch(found)
		if strings.HasSuffix(strings.ToLower(part[1]), "_file") {
			return found // the name of a file is none
		}
		return part[1] + part[2] + "***"
	})
	line = privateKey.ReplaceAllString(line, "towline-secret-***")
	return password.ReplaceAllString(line, "${1}***@")
}

// redacted is an address without the password that it may hold.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	if _, locked := u.User.Password(); !locked {
		return address
	}
	return u.Redacted()
}
