package page

import (
	"bytes"
	"cmp"
	"flag"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

var update = flag.Bool("update", false, "draw docs/images/page-*.png again")

const (
	maxPicture = 200 << 10
	maxColours = 128
)

// views are what people look with.
var views = []struct {
	suffix string
	parts.View
}{
	{"", parts.View{Width: 1280, Height: 800}}, {"-dark", parts.View{Width: 1280, Height: 800, Dark: true}},
	{"-phone", parts.View{Width: 390, Height: 800}}, {"-phone-dark", parts.View{Width: 390, Height: 800, Dark: true}},
}

// lean is a picture with no more than 128 colours: the most frequent ones. A page has few, and their blends at the edges of
// letters, which nobody tells apart.
func lean(t *testing.T, data []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	often := map[color.RGBA]int{}
	box := full.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	for y := range box.Dy() {
		for x := range box.Dx() {
			often[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(often), func(a, b color.RGBA) int {
		return cmp.Or(often[b]-often[a], cmp.Compare(uint32(a.R)<<16|uint32(a.G)<<8|uint32(a.B), uint32(b.R)<<16|uint32(b.G)<<8|uint32(b.B)))
	})
	palette := color.Palette{}
	for _, c := range colours[:min(len(colours), maxColours)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range colours {
		index[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(box, palette)
	for y := range box.Dy() {
		for x := range box.Dx() {
			out.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, out); err != nil {
		t.Fatal(err)
	}
	return small.Bytes()
}

// TestPictures draws the pictures that docs/ shows, or checks that each is there and small.
func TestPictures(t *testing.T) {
	dir := filepath.Join(parts.Root(t), "docs", "images")
	shown := []string{"calm", "deploying", "rolled-back", "broken", "ten"}
	if *update {
		b, now := parts.StartBrowser(t), time.Now()
		all := scenes(now)
		for _, name := range shown {
			address := serve(t, all[name], now)
			for _, v := range views {
				p := b.Open(t, address, v.View)
				p.Wait(t, "document.getElementById('line').className == 'good'")
				if name == "rolled-back" || name == "broken" {
					p.Eval(t, "document.querySelector('.timeline details').open = true", nil)
				}
				if err := os.WriteFile(filepath.Join(dir, "page-"+name+v.suffix+".png"), lean(t, p.Screenshot(t)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, name := range shown {
		for _, v := range views {
			data, err := os.ReadFile(filepath.Join(dir, "page-"+name+v.suffix+".png"))
			switch {
			case err != nil:
				t.Errorf("no picture: %v (go test ./test/page -run TestPictures -update draws it)", err)
			case !bytes.HasPrefix(data, []byte("\x89PNG")) || len(data) > maxPicture:
				t.Errorf("page-%s%s: got %d bytes, want a PNG of at most %d", name, v.suffix, len(data), maxPicture)
			}
		}
	}
}
