// Package schema is what the agent's configuration may hold, as JSON Schema, for editors and for the reference in docs/.
//
// The agent itself does without it: package config reads the file form, which its tests hold together with the schema key
// by key, so that whatever the agent takes, the schema takes too. Defaults that are not one value stand under x-default, in
// words.
package schema

import _ "embed"

//go:embed agent.schema.json
var agent string

// Agent returns the schema of agent.yaml, draft 2020-12.
func Agent() string { return agent }
