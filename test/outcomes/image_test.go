package outcomes

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// maxImage is what the image may weigh as a registry keeps it and a runner pulls it.
const maxImage = 15 << 20

// weigh compresses the image's layers as a registry has them, and looks at what the runner needs of its configuration.
func (w *world) weigh() {
	save := w.engine.Command("save", image)
	out, err := save.StdoutPipe()
	w.must(err)
	w.must(save.Start())
	total, layers := int64(0), 0
	archive := tar.NewReader(out)
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		w.must(err)
		if strings.HasSuffix(entry.Name, "/layer.tar") && entry.Typeflag == tar.TypeReg {
			total += compressed(w, archive)
			layers++
		}
	}
	w.must(save.Wait())
	w.t.Logf("the image weighs %.2f MiB compressed, in %d layers", float64(total)/(1<<20), layers)
	if layers == 0 || total > maxImage {
		w.t.Errorf("image: got %d bytes in %d layers, want at most %d", total, layers, maxImage)
	}

	var found []struct {
		Config struct {
			User, WorkingDir string
			Entrypoint, Cmd  []string
			Volumes          map[string]any
		}
	}
	w.must(json.Unmarshal([]byte(w.engine.CLI(w.t, "image", "inspect", image)), &found))
	if len(found) != 1 {
		w.t.Fatalf("got %d images", len(found))
	}
	// The workspace is root's and mounted where the runner says; a shell in between would swallow the signals.
	c := found[0].Config
	if c.User != "" || c.WorkingDir != "" && c.WorkingDir != "/" || len(c.Volumes) != 0 {
		w.t.Errorf("configuration: got user %q, directory %q, volumes %v, want none", c.User, c.WorkingDir, c.Volumes)
	}
	if strings.Join(append(c.Entrypoint, c.Cmd...), " ") != "/towline-action" {
		w.t.Errorf("entrypoint: got %q %q, want the program alone", c.Entrypoint, c.Cmd)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func compressed(w *world, r io.Reader) int64 {
	var n counter
	z := gzip.NewWriter(&n) // the level of registries' clients
	_, err := io.Copy(z, r)
	w.must(err)
	w.must(z.Close())
	return int64(n)
}
