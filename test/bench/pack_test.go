package bench

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/test/parts"
)

// What people do today; $1 is the directory and $2 the file.
const (
	reference = `tar -C "$1" -cf - . | zstd -T0 -3 -q -f -o "$2"`
	recipe    = `tar -C "$1" -czf "$2" .`

	referenceName = "`tar \\| zstd -T0 -3`"
	recipeName    = "`tar czf`"
)

const peakGoal = 192 << 20

// artifactSize takes the size of the artifact out of a report.
func artifactSize(b testing.TB, report string) float64 {
	b.Helper()
	var r struct {
		Artifact struct{ Size float64 }
	}
	if err := json.Unmarshal([]byte(report), &r); err != nil || r.Artifact.Size == 0 {
		b.Fatalf("no size in the report: %v\n%s", err, report)
	}
	return r.Artifact.Size
}

// measurePack packs without uploading: the peers into a file, Towline by a dry run, which packs into a temporary file,
// lists the tree and throws the file away.
func measurePack(b *testing.B, t *table, bin string, trees []input) {
	scratch := b.TempDir()
	store := filepath.Join(scratch, "bucket")
	if err := os.Mkdir(store, 0o755); err != nil {
		b.Fatal(err)
	}
	p := newPublisher(b, bin, nil)
	for _, in := range trees {
		var wall, work, peak, rate, zstd, zstdWork, gzip, size, zstdSize sample
		peer := func(script, file string, wall, work, size *sample) {
			path := filepath.Join(scratch, file)
			_, c := run(b, nil, "sh", "-ec", script, "sh", in.dir, path)
			info, err := os.Stat(path)
			if err != nil || info.Size() == 0 {
				b.Fatalf("%s wrote nothing: %v", script, err)
			}
			*wall, *work, *size = append(*wall, c.wall), append(*work, c.cpu), append(*size, float64(info.Size()))
		}
		var unused sample
		alternate(often(5), func() {
			_, report, c := p.publish(b, "app", in.dir, "file://"+store, "--dry-run")
			wall, work, peak = append(wall, c.wall), append(work, c.cpu), append(peak, c.peak)
			rate, size = append(rate, in.bytes/1e6/c.wall), append(size, artifactSize(b, report))
		}, func() {
			peer(reference, "a.tar.zst", &zstd, &zstdWork, &zstdSize)
		}, func() {
			peer(recipe, "a.tar.gz", &gzip, &unused, &unused)
		})
		note := fmt.Sprintf(" = %.0f MB/s", rate.counted().median())
		t.add(
			row{what: "pack " + in.String(), have: wall.counted(), format: seconds, note: note, peer: referenceName, other: zstd.counted()},
			row{what: "the same, processor time", have: work.counted(), format: seconds, peer: referenceName, other: zstdWork.counted()},
			row{what: "the same", have: wall.counted(), format: seconds, peer: recipeName, other: gzip.counted()},
			row{what: "archive size", have: size[:1], format: megabytes, peer: referenceName, other: zstdSize[:1], goal: 1.08},
			row{what: "peak memory of packing", have: peak.counted(), format: mebibytes, goal: peakGoal},
		)
	}
}

// measureUpload packs and uploads: Towline by publish, the peers by a stream of parts, or by one request for a file. The
// peers' uploads are done by this process, which costs them nothing to start, as an S3 command line would.
func measureUpload(b *testing.B, t *table, bin string, in input) {
	s3 := parts.S3(b)
	bucket := s3.Bucket(b, "uploads")
	scratch := b.TempDir()
	p := newPublisher(b, bin, s3.Env())
	var wall, peak, streamed, put, rate sample
	n := 0
	alternate(often(5), func() {
		_, _, c := p.publish(b, "app", in.dir, s3.URL(bucket))
		wall, peak, rate = append(wall, c.wall), append(peak, c.peak), append(rate, in.bytes/1e6/c.wall)
	}, func() {
		n++
		began := time.Now()
		stream(b, s3, fmt.Sprintf("/%s/stream/%d.tar.zst", bucket, n), in.dir)
		streamed = append(streamed, time.Since(began).Seconds())
	}, func() {
		n++
		path := filepath.Join(scratch, "a.tar.gz")
		began := time.Now()
		run(b, nil, "sh", "-ec", recipe, "sh", in.dir, path)
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		want(b, s3, "PUT", fmt.Sprintf("/%s/put/%d.tar.gz", bucket, n), data)
		put = append(put, time.Since(began).Seconds())
	})
	note := fmt.Sprintf(" = %.0f MB/s", rate.counted().median())
	t.add(
		row{what: "pack and upload " + in.String(), have: wall.counted(), format: seconds, note: note,
			peer: referenceName + ", streamed up", other: streamed.counted(), goal: 2},
		row{what: "the same", have: wall.counted(), format: seconds, peer: recipeName + ", then one PUT", other: put.counted(), goal: 0.25},
		row{what: "peak memory of pack and upload", have: peak.counted(), format: mebibytes, goal: peakGoal},
	)
}

// stream packs dir by the reference and uploads it in parts of 8 MiB while it is packed.
func stream(b *testing.B, s3 *parts.S3Server, path, dir string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "sh", "-ec", `tar -C "$1" -cf - . | zstd -T0 -3 -q`, "sh", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	// Parts are read ahead, so that packing goes on during an upload.
	read := make(chan []byte, 2)
	failed := make(chan error, 1)
	go func() {
		defer close(read)
		in := bufio.NewReaderSize(out, 1<<20)
		for {
			part := make([]byte, 8<<20)
			n, err := io.ReadFull(in, part)
			if n > 0 {
				read <- part[:n]
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					failed <- err
				}
				return
			}
		}
	}()
	var started struct {
		UploadID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(want(b, s3, "POST", path+"?uploads=", nil), &started); err != nil {
		b.Fatal(err)
	}
	n := 0
	for part := range read {
		n++
		want(b, s3, "PUT", fmt.Sprintf("%s?partNumber=%d&uploadId=%s", path, n, started.UploadID), part)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	var listed struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(want(b, s3, "GET", path+"?uploadId="+started.UploadID, nil), &listed); err != nil || len(listed.Part) != n {
		b.Fatalf("list parts: got %d, want %d: %v", len(listed.Part), n, err)
	}
	var complete strings.Builder
	complete.WriteString("<CompleteMultipartUpload>")
	for _, p := range listed.Part {
		fmt.Fprintf(&complete, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", p.PartNumber, p.ETag)
	}
	complete.WriteString("</CompleteMultipartUpload>")
	want(b, s3, "POST", path+"?uploadId="+started.UploadID, []byte(complete.String()))
}

// want sends a request that must succeed, and returns the answer.
func want(b *testing.B, s3 *parts.S3Server, method, path string, body []byte) []byte {
	b.Helper()
	status, answer := s3.Do(b, method, path, body)
	if status != 200 {
		b.Fatalf("%s %s: got status %d, want 200: %s", method, path, status, answer)
	}
	return answer
}

// measureSize weighs the programs.
func measureSize(b testing.TB, t *table, bin string) {
	for _, p := range []struct {
		name string
		goal float64
	}{{"towline-agent", 13e6}, {"towline-action", 0}, {"towline", 0}} {
		info, err := os.Stat(filepath.Join(bin, p.name))
		if err != nil {
			b.Fatal(err)
		}
		var promise string
		if p.goal > 0 {
			promise = "size of the agent's program"
		}
		t.add(row{promise: promise, what: "`" + p.name + "`, static and stripped", have: sample{float64(info.Size())}, format: megabytes, goal: p.goal})
	}
}
