package deploy

import (
	"errors"
	"sync"
)

// ErrLeft says that the engine has been told to leave and takes no more commands.
var ErrLeft = errors.New("the agent takes up a new configuration of this app; ask again in a moment")

// departure is how an engine ends without a deployment being cut short.
type departure struct {
	once sync.Once
	told chan struct{} // closed by Leave
	gone chan struct{} // closed when Run has returned because of it
}

// Leave has Run return as soon as no deployment is under way: one that has begun comes to its outcome first. It does not
// wait. An engine that has left is not run again.
func (e *Engine) Leave() { e.departure.once.Do(func() { close(e.departure.told) }) }

// left reports whether Run is to return: Leave was called, and no deployment is under way that an earlier process left.
func (e *Engine) left() bool {
	select {
	case <-e.departure.told:
		return e.state.Attempt == nil || e.locked != nil
	default:
		return false
	}
}
