package deploy

import "time"

// took is how long the attempt has lasted. Over a restart of the agent that is what the machine's clock says, if it can be.
func (a *attempt) took() time.Duration {
	if !a.begun.IsZero() {
		return time.Since(a.begun)
	}
	return max(0, time.Since(a.Started))
}
