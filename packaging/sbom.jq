# Makes one bill of materials out of those of several programs (jq --slurp --arg version X.Y.Z --arg serial UUID): the release,
# the programs that it is made of with their digests, and under these every module that is linked into any of them.
def named: (.metadata.properties | map({(.name): .value}) | add) as $p
	| {
		program: $p["cdx:gomod:binary:name"],
		sha256: $p["cdx:gomod:binary:hash:SHA-256"],
		platform: "\($p["cdx:gomod:build:env:GOOS"])/\($p["cdx:gomod:build:env:GOARCH"])",
	};
"pkg:github/towline/towline@v\($version)" as $root
| map(named as $n | . + $n + {ref: "\($root)#\($n.program)?platform=\($n.platform)"})
| {
	"$schema": .[0]["$schema"], bomFormat: "CycloneDX", specVersion: .[0].specVersion, serialNumber: "urn:uuid:\($serial)", version: 1,
	metadata: {
		tools: .[0].metadata.tools,
		component: {"bom-ref": $root, type: "application", name: "towline", version: $version, purl: $root, licenses: [{license: {id: "Apache-2.0"}}]},
	},
	components: (
		map({
			"bom-ref": .ref, type: "application", name: .program, version: $version,
			description: .platform, hashes: [{alg: "SHA-256", content: .sha256}],
		})
		+ (map(.components[]) | unique_by(.["bom-ref"]))),
	dependencies: (
		[{ref: $root, dependsOn: map(.ref)}]
		+ map({ref: .ref, dependsOn: (.components | map(.["bom-ref"]) | sort)})
		+ (map(.components[]["bom-ref"]) | unique | map({ref: .}))),
}
