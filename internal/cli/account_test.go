package cli

import (
	"slices"
	"testing"
)

func TestLookUp(t *testing.T) {
	root, err := lookUp("root", "")
	if err != nil || root.UID != 0 || root.Group != "root" || !slices.Contains(root.gids, 0) {
		t.Errorf("got %+v, %v", root, err)
	}
	number, err := lookUp("0", "0")
	if err != nil || number.User != "root" || number.Group != "root" {
		t.Errorf("by number: got %+v, %v", number, err)
	}
	if _, err := lookUp("no-such-user", ""); err == nil {
		t.Error("got nil for a user that does not exist")
	}
}
