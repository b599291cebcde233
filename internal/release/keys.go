package release

import (
	"fmt"
	"strings"
)

// ArtifactKey is the object key of an artifact: named by version and digest, so that nothing is ever overwritten.
func ArtifactKey(prefix, version, sha256hex, format string) string {
	return releaseKey(prefix, version, sha256hex) + extension(format)
}

// ManifestKey is the object key of the release beside its artifact.
func ManifestKey(prefix, version, sha256hex string) string {
	return releaseKey(prefix, version, sha256hex) + ".json"
}

// ReleasesPrefix is what the keys of all artifacts and manifests of an app begin with.
func ReleasesPrefix(prefix string) string { return prefix + "/releases/" }

// PointerKey is the object key of an environment's pointer.
func PointerKey(prefix, environment string) string {
	return prefix + "/" + environment + "/version.json"
}

// HistoryPrefix is what the keys of an environment's history begin with.
func HistoryPrefix(prefix, environment string) string {
	return prefix + "/" + environment + "/history/"
}

// HistoryKey is the object key of the pointer as it was at seq.
func HistoryKey(prefix, environment string, seq uint64) string {
	return fmt.Sprintf("%s%010d.json", HistoryPrefix(prefix, environment), seq)
}

// ReceiptsPrefix is what the keys of an environment's receipts begin with.
func ReceiptsPrefix(prefix, environment string) string {
	return prefix + "/" + environment + "/receipts/"
}

// ReceiptKey is the object key of a server's receipt.
func ReceiptKey(prefix, environment, server string) string {
	return ReceiptsPrefix(prefix, environment) + server + ".json"
}

// ParseManifestKey takes the version and the digest's first 12 hex digits out of a manifest's key. ok is false for
// keys of other objects.
func ParseManifestKey(prefix, key string) (version, sha12 string, ok bool) {
	name, found := strings.CutPrefix(key, ReleasesPrefix(prefix))
	if !found {
		return "", "", false
	}
	name, found = strings.CutSuffix(name, ".json")
	if !found {
		return "", "", false
	}
	i := strings.LastIndexByte(name, '-')
	if i < 0 || len(name)-i-1 != 12 || CheckVersion(name[:i]) != nil {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

// ParseHistoryKey takes the seq out of a history key. ok is false for keys of other objects.
func ParseHistoryKey(prefix, environment, key string) (seq uint64, ok bool) {
	name, found := strings.CutPrefix(key, HistoryPrefix(prefix, environment))
	if !found {
		return 0, false
	}
	if _, err := fmt.Sscanf(name, "%d.json", &seq); err != nil {
		return 0, false
	}
	return seq, HistoryKey(prefix, environment, seq) == key
}

// ShortHash is the form of a version for names and people: its first 12 characters.
func ShortHash(version string) string { return version[:min(12, len(version))] }

func releaseKey(prefix, version, sha256hex string) string {
	return ReleasesPrefix(prefix) + version + "-" + sha256hex[:min(12, len(sha256hex))]
}

func extension(format string) string {
	if format == FormatGzip {
		return ".tar.gz"
	}
	return ".tar.zst"
}
