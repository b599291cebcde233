// Package outcomes runs the action as a runner does, in its container, and looks at everything that a person or another
// tool sees of it: every outcome by a workflow, the commands, roles taken by an OIDC token, cancelled runs, the image.
//
// Parties: act runs workflows in containers of the engine; the action's image is made of the Dockerfile; an S3 server,
// a fake GitHub that checks both directions, a fake STS; one agent as a process with several apps, whose restarts are a
// shell's and whose probe this package answers by what lies in the live release. The job calls the test back between two
// steps, so that each step's traces are told from the next one's. It needs root; package parts says what else.
package outcomes
