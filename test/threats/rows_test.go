package threats

import "github.com/towline/towline/test/proof"

// threats are the attacks that are known, in the order of SECURITY.md. Each must have a defence.
var threats = []string{
	"forged pointer", "old pointer restored", "replay to a fresh server", "freeze", "fast-forward", "cross-app, cross-environment",
	"another environment's key", "two pointers with one seq", "a stale read that looks like a revert",
	"artifact swapped, truncated, endless", "JSON tricks", "threshold and keys", "payload type confusion",
	"forged, replayed, flooded ping", "a replayed ping asking for a stream", "what a stranger learns from the port",
	"hostile archive", "malicious but signed app", "app user in group towline", "unit that reaches too far",
	"app tampers with an old release", "local user races the stage", "stolen CI key", "stolen agent key",
	"a server that writes the pointer", "compromised S3 endpoint", "recycled repository name", "an app log that steers the runner",
	"secret leak", "path injection", "poisoned action tag",
}

// row is what stands against a threat: in words, and the tests that prove it, as package directory and function.
type row struct {
	attack  string
	defence string
	tests   []proof.Test
}

var here = "test/threats"

// defences are the rows of the table, by threat.
var defences = map[string]row{
	"forged pointer": {
		"writes the bucket without a key", "a signature by the keys that the server names, over every byte that is read, before anything else",
		[]proof.Test{{Dir: here, Name: "TestForgedPointer"}, {Dir: "internal/release", Name: "TestEverySingleBitFlipIsRefused"}},
	},
	"old pointer restored": {
		"puts an earlier `version.json` back", "a sequence number whose mark is durable before anything is activated; an earlier pointer only if it was followed here before, its release healthy, and `reverts: follow`",
		[]proof.Test{{Dir: here, Name: "TestOldPointerRestored"}},
	},
	"replay to a fresh server": {
		"shows an old pointer to a server without a memory", "no first install by an expired pointer; expiry stops nothing that runs",
		[]proof.Test{{Dir: here, Name: "TestReplayToAFreshServer"}},
	},
	"freeze": {
		"keeps the newest pointer back", "the ping carries it and is followed, and the older one in the bucket is called a suspected freeze, not a restore; what is shown on and on becomes `stale`",
		[]proof.Test{{Dir: here, Name: "TestFreeze"}},
	},
	"fast-forward": {
		"drives the sequence to 2^63 with a stolen key", "change the key, then `towline recover APP --accept-seq N` on the server",
		[]proof.Test{{Dir: here, Name: "TestFastForward"}, {Dir: "internal/deploy", Name: "TestRecoverSetsTheMarkOfASoundState"}},
	},
	"cross-app, cross-environment": {
		"offers what is signed for another app, environment or prefix", "all three are in the signed payload and must equal the server's configuration; the artifact's key is rebuilt",
		[]proof.Test{{Dir: here, Name: "TestCrossAppAndEnvironment"}},
	},
	"another environment's key": {
		"signs production with staging's key", "`trust:` of each app stands alone",
		[]proof.Test{{Dir: here, Name: "TestAnotherEnvironmentsKey"}},
	},
	"two pointers with one seq": {
		"a second publisher signs another history", "fork alarm: refused, said in status and receipt, what runs goes on",
		[]proof.Test{{Dir: here, Name: "TestTwoPointersWithOneSeq"}},
	},
	"a stale read that looks like a revert": {
		"a lagging replica shows an older pointer", "an older Last-Modified is believed after five equal looks over a minute",
		[]proof.Test{{Dir: here, Name: "TestStaleReadIsNoRevert"}},
	},
	"artifact swapped, truncated, endless": {
		"gives other bytes, or never stops giving", "size and SHA-256 stand in the signed pointer and are checked before a byte is parsed; a newer pointer ends a slow download",
		[]proof.Test{{Dir: here, Name: "TestArtifactSwappedOrTruncated"}},
	},
	"JSON tricks": {
		"duplicate keys, other case, trailing data", "a payload must encode to its own bytes again",
		[]proof.Test{{Dir: "internal/release", Name: "TestJSONTricks"}},
	},
	"threshold and keys": {
		"threshold 0, one key counted twice", "checked when the configuration is read; distinct keys are counted, not signatures",
		[]proof.Test{{Dir: "internal/release", Name: "TestThresholdAndDistinctKeys"}, {Dir: "internal/config", Name: "TestThresholdAndDistinctKeys"}},
	},
	"payload type confusion": {
		"offers a signed release as a pointer", "the type is part of what is signed",
		[]proof.Test{{Dir: "internal/release", Name: "TestPayloadTypeConfusion"}},
	},
	"forged, replayed, flooded ping": {
		"rings without a key, again, or 100,000 times", "a ping proves itself by its signature and is worth one look; limits for each address and for all",
		[]proof.Test{{Dir: "internal/agent", Name: "TestPingFlood"}},
	},
	"a replayed ping asking for a stream": {
		"posts an old pointer to read what a deployment says", "no stream below the sequence that is followed",
		[]proof.Test{{Dir: "internal/agent", Name: "TestReplayedPingGetsNoStream"}},
	},
	"what a stranger learns from the port": {
		"asks around", "two health routes without names; 401 without detail",
		[]proof.Test{{Dir: "internal/agent", Name: "TestPortTellsNothing"}},
	},
	"hostile archive": {
		"paths that leave, link games, devices, bombs", "files, directories and inward links only, inside of one directory that the kernel holds; caps on everything",
		[]proof.Test{{Dir: "internal/artifact", Name: "TestHostileArchives"}},
	},
	"malicious but signed app": {
		"ships code that attacks the server", "it runs as the app's user, who owns neither releases nor the agent's state",
		[]proof.Test{{Dir: "test/system", Name: "TestSignedAppStaysInItsPlace"}},
	},
	"app user in group towline": {
		"commands the agent from within the app", "`towline app add` refuses it, and names what ends it",
		[]proof.Test{{Dir: "test/system", Name: "TestAppUserInGroupTowline"}},
	},
	"unit that reaches too far": {
		"a unit that runs as root, or files of the app run with `+` or `!`", "refused or warned of loudly, before rights are given",
		[]proof.Test{{Dir: "test/system", Name: "TestUnitsThatReachTooFar"}},
	},
	"app tampers with an old release": {
		"changes what the next rollback runs", "releases belong to the agent; a changed one is not gone back to",
		[]proof.Test{{Dir: "internal/agent", Name: "TestTamperedReleaseIsNotRolledBackTo"}},
	},
	"local user races the stage": {
		"swaps files while a release is unpacked", "a private parent directory, an open descriptor, a look at every entry before it becomes a release",
		[]proof.Test{{Dir: "internal/appdir", Name: "TestLocalUserRacesTheStage"}},
	},
	"stolen CI key": {
		"signs what he likes", "**he runs code as the app's user** until the key is changed, which takes no downtime; with `threshold: 2` one key is not enough, and a publisher with both signs again only what both have signed",
		[]proof.Test{{Dir: here, Name: "TestStolenCIKey"}, {Dir: "internal/publish", Name: "TestOneKeyOfTwoIsNotSignedForByTheOther"}},
	},
	"stolen agent key": {
		"has a server's key to the bucket", "it reads releases and writes one receipt: `towline init --print-policy`",
		[]proof.Test{{Dir: "internal/cli", Name: "TestStolenAgentKey"}},
	},
	"a server that writes the pointer": {
		"a taken server tries to move the others", "its key may not write there, and nobody would believe it without a signature",
		[]proof.Test{{Dir: "internal/cli", Name: "TestServerCannotWriteThePointer"}},
	},
	"compromised S3 endpoint": {
		"answers for the store", "signatures; no redirect to another host; no credentials where they do not belong; no answer and no listing without an end",
		[]proof.Test{{Dir: "internal/bucket", Name: "TestCompromisedEndpoint"}, {Dir: "internal/bucket", Name: "TestEndlessAnswers"}, {Dir: "internal/bucket", Name: "TestNoAnswerOfSTSShowsTheToken"}},
	},
	"recycled repository name": {
		"registers a name that was given up, for its OIDC rights", "the trust policy that is printed pins the numeric IDs",
		[]proof.Test{{Dir: "internal/action", Name: "TestRecycledRepositoryName"}},
	},
	"an app log that steers the runner": {
		"prints `::set-output::` and worse", "text of servers and commits is printed while commands are stopped, and escaped in the summary",
		[]proof.Test{{Dir: "internal/action", Name: "TestAppLogCannotSteerTheRunner"}},
	},
	"secret leak": {
		"reads logs, receipts, pages", "no output holds a secret; the action masks them first",
		[]proof.Test{{Dir: here, Name: "TestSecretsDoNotLeak"}, {Dir: "internal/config", Name: "TestSecretsInTheFileAreNotShown"}},
	},
	"path injection": {
		"names, fields, links and redirects that lead elsewhere", "every name is checked on every way in, keys are rebuilt, links and redirects are not followed",
		[]proof.Test{{Dir: here, Name: "TestPathInjection"}},
	},
	"poisoned action tag": {
		"moves the tag of an action that a workflow uses", "the workflows here name every third party by its commit",
		[]proof.Test{{Dir: here, Name: "TestThirdPartyActionsArePinned"}},
	},
}
