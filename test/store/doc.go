// Package store lets the store misbehave under the real programs, and looks at what they do.
//
// The parties are towline publish --promote and towline-agent, as processes, and versitygw. Between them and it stands a
// proxy of each row's own that resets, stalls, truncates, drips, refuses, answers with what is no store's answer, shows old
// pointers, ignores conditions or takes them without quotes only; it counts requests by object. A row is one misbehaviour
// and one party: publisher_test.go has those of the publisher, agent_test.go those of the agent as it polls and as it fetches.
//
// What holds in every row: the app's live release is whole and is started once for each release that becomes live; the
// requests of one operation are few; the agent's memory stays small; and once the store is well the system ends where it
// should with nobody's help. The mixture does it with random misbehaviours: -args -rounds N is how many deployments.
package store
