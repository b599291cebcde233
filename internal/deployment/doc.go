// Package deployment holds the words in which a server tells of its deployments: events, receipts, outcomes, and the
// ledger that decides what may happen next. It is pure: no disk, network, clock or environment.
//
// A deployment is one attempt to make one release live on one server. It runs through the steps fetch, unpack, activate,
// check, confirm, prune; it ends with exactly one terminal event, which carries its Outcome and the reason.
package deployment
