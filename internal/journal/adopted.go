package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/towline/towline/internal/deployment"
)

// adoptedFile is where root leaves word of a release directory that it has made.
const adoptedFile = "adopted.json"

// maxAdopted bounds the file, in bytes.
const maxAdopted = 1 << 20

// Adopted is the release directory that was made out of what ran on this server before, nil when there is none.
func (j *Journal) Adopted() (*deployment.Adopted, error) {
	root, err := os.OpenRoot(j.dir)
	if err != nil {
		return nil, fmt.Errorf("read what was adopted: %w", err)
	}
	defer root.Close()
	return ReadAdopted(root)
}

// ReadAdopted is Adopted of the journal in a directory.
func ReadAdopted(dir *os.Root) (*deployment.Adopted, error) {
	f, err := dir.Open(adoptedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var a deployment.Adopted
	if err == nil {
		defer f.Close()
		err = json.NewDecoder(io.LimitReader(f, maxAdopted)).Decode(&a)
	}
	if err == nil && (a.Name == "" || !treeDigest.MatchString(a.Digest)) {
		err = errors.New("it names no release directory")
	}
	if err != nil {
		return nil, fmt.Errorf("read what was adopted: %s: %w", filepath.Join(dir.Name(), adoptedFile), err)
	}
	return &a, nil
}

// LeaveAdopted leaves word of an adopted release, with its listing, in the journal below a directory of the agent's, at
// apps/<key>. Root does it, before an agent has ever run maybe: what is made is given to the agent, whose user could lead
// every name elsewhere, so that no link out of the directory is followed.
func LeaveAdopted(state *os.Root, key string, uid, gid int, a deployment.Adopted, listing io.WriterTo) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("leave word of release %s: %w", a.Name, err)
	}
	var lines bytes.Buffer
	if _, err := listing.WriteTo(&lines); err != nil {
		return fmt.Errorf("leave word of release %s: %w", a.Name, err)
	}
	home := path.Join("apps", key)
	for _, dir := range []string{"apps", home, path.Join(home, "trees"), path.Join(home, "deployments")} {
		if err := give(state, dir, uid, gid); err != nil {
			return fmt.Errorf("leave word of release %s: %w", a.Name, err)
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{path.Join(home, "trees", strings.TrimPrefix(a.Digest, "t1:")), lines.Bytes()}, {path.Join(home, adoptedFile), data}} {
		if err := put(state, f.name, f.data, uid, gid); err != nil {
			return fmt.Errorf("leave word of release %s: %w", a.Name, err)
		}
	}
	return nil
}

// give makes a directory, if it is not there, that belongs to the user.
func give(state *os.Root, dir string, uid, gid int) error {
	if err := state.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return state.Lchown(dir, uid, gid)
}

// put writes a file of the user's in one step.
func put(state *os.Root, name string, data []byte, uid, gid int) (err error) {
	tmp := path.Join(path.Dir(name), ".adopted-"+rand.Text())
	f, err := state.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = state.Remove(tmp)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chown(uid, gid); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = state.Rename(tmp, name); err != nil {
		return err
	}
	dir, err := state.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
