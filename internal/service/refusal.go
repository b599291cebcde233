package service

import (
	"errors"
	"io/fs"
)

// errMasked is the refusal to start a masked unit.
var errMasked = errors.New("the unit is masked")

// refusal is a restart or stop that systemd did not take on. It says nothing about the release.
type refusal struct {
	err       error
	untouched bool
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// ReleaseFault is false: what runs was not asked.
func (r *refusal) ReleaseFault() bool { return false }

// Untouched reports whether the unit is certain to be as it was: systemd has said no, or was never asked.
func (r *refusal) Untouched() bool { return r.untouched }

// Away reports whether systemd has not said no: it, the bus or polkit was not to be reached.
func (r *refusal) Away() bool { return !answered(r.err) }

// answered reports whether the error is an answer of systemd's.
func answered(err error) bool {
	switch errorName(err) {
	case "", "org.freedesktop.DBus.Error.Disconnected", "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout",
		"org.freedesktop.DBus.Error.TimedOut":
		return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errMasked)
	}
	return true
}

// notQueued is the refusal that an error of asking for a job stands for. Where no answer came the job may have been queued
// all the same.
func notQueued(err error) error { return &refusal{err: err, untouched: answered(err)} }
