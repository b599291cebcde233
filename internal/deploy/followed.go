package deploy

import (
	"encoding/json"
	"fmt"
)

// Followed returns the seq of the pointer that a saved state follows, 0 when it follows none. It is for those who must
// know while there is no engine.
func Followed(state []byte) (seq uint64, err error) {
	var l ledger
	if err := json.Unmarshal(state, &l); err != nil {
		return 0, fmt.Errorf("read state: %w", err)
	}
	return l.followed().Seq, nil
}
