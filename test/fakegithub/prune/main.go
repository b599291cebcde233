// Prune cuts GitHub's OpenAPI description down to the operations that Towline calls and the schemas they refer to.
//
//	npm pack @octokit/openapi@23.0.2 && tar xzf octokit-openapi-23.0.2.tgz
//	go run ./test/fakegithub/prune package/generated/api.github.com.json > test/fakegithub/testdata/openapi.json
//
// What only people read (descriptions, examples, links, vendor extensions) is left out; every rule that a validator
// checks stays. The same input always gives the same bytes.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: prune api.github.com.json > openapi.json")
		os.Exit(2)
	}
	data, err := os.ReadFile(os.Args[1])
	if err == nil {
		data, err = prune(data)
	}
	if err == nil {
		_, err = os.Stdout.Write(data)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prune:", err)
		os.Exit(1)
	}
}

// operations are the methods kept of each path.
var operations = map[string][]string{
	"/repos/{owner}/{repo}/commits/{ref}":                        {"get"},
	"/repos/{owner}/{repo}/compare/{basehead}":                   {"get"},
	"/repos/{owner}/{repo}/deployments":                          {"get", "post"},
	"/repos/{owner}/{repo}/deployments/{deployment_id}/statuses": {"get", "post"},
}

type object = map[string]any

func prune(data []byte) ([]byte, error) {
	var doc object
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	all, _ := doc["paths"].(object)
	paths := object{}
	for path, methods := range operations {
		from, ok := all[path].(object)
		if !ok {
			return nil, fmt.Errorf("the description has no path %s", path)
		}
		kept := object{}
		for _, method := range methods {
			if from[method] == nil {
				return nil, fmt.Errorf("the description has no %s %s", method, path)
			}
			kept[method] = strip(from[method], false)
		}
		paths[path] = kept
	}
	components, err := reachable(doc, paths)
	if err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(object{
		"openapi": doc["openapi"], "info": doc["info"], "servers": doc["servers"], "paths": paths, "components": components,
	}, "", "")
	return append(out, '\n'), err
}
