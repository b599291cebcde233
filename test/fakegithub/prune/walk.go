package main

import (
	"fmt"
	"strings"
)

// prose are the keys that no validator reads. Below "properties" the same words are names of fields and stay.
var prose = map[string]bool{
	"description": true, "example": true, "examples": true, "summary": true, "title": true, "externalDocs": true,
	"tags": true, "operationId": true, "links": true,
}

// strip copies a value without prose and vendor extensions. The names below "properties", "headers" and the like are
// free and kept: named says that node holds such names. A response must keep a description, if an empty one.
func strip(node any, named bool) any {
	switch node := node.(type) {
	case object:
		out := object{}
		for key, value := range node {
			switch {
			case named:
				out[key] = strip(value, false)
			case prose[key], strings.HasPrefix(key, "x-"):
			case key == "responses":
				out[key] = responses(value.(object))
			default:
				out[key] = strip(value, key == "properties" || key == "headers" || key == "content")
			}
		}
		return out
	case []any:
		out := make([]any, len(node))
		for i, value := range node {
			out[i] = strip(value, false)
		}
		return out
	}
	return node
}

func responses(from object) object {
	out := object{}
	for code, value := range from {
		out[code] = response(strip(value, false))
	}
	return out
}

func response(node any) any {
	if r, ok := node.(object); ok && r["$ref"] == nil {
		r["description"] = ""
	}
	return node
}

// reachable collects every component that paths refer to, directly or through other components.
func reachable(doc, paths object) (object, error) {
	components := object{}
	queue := references(paths, nil)
	for len(queue) > 0 {
		ref := queue[0]
		queue = queue[1:]
		group, name, ok := strings.Cut(strings.TrimPrefix(ref, "#/components/"), "/")
		if !ok {
			return nil, fmt.Errorf("unexpected reference %s", ref)
		}
		into, _ := components[group].(object)
		if into == nil {
			into = object{}
			components[group] = into
		}
		if into[name] != nil {
			continue
		}
		from, _ := doc["components"].(object)[group].(object)
		if from[name] == nil {
			return nil, fmt.Errorf("reference to nothing: %s", ref)
		}
		into[name] = strip(from[name], false)
		if group == "responses" {
			into[name] = response(into[name])
		}
		queue = references(into[name], queue)
	}
	return components, nil
}

func references(node any, found []string) []string {
	switch node := node.(type) {
	case object:
		for key, value := range node {
			if ref, ok := value.(string); ok && key == "$ref" {
				found = append(found, ref)
				continue
			}
			found = references(value, found)
		}
	case []any:
		for _, value := range node {
			found = references(value, found)
		}
	}
	return found
}
