package threats

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
	tests   []test
}

type test struct{ dir, name string }

var here = "test/threats"

// defences are the rows of the table, by threat.
var defences = map[string]row{
	"forged pointer": {
		"writes the bucket without a key", "a signature by the keys that the server names, over every byte that is read, before anything else",
		[]test{{here, "TestForgedPointer"}, {"internal/release", "TestEverySingleBitFlipIsRefused"}},
	},
	"old pointer restored": {
		"puts an earlier `version.json` back", "a sequence number whose mark is durable before anything is activated; an earlier pointer only if it was followed here before, its release healthy, and `reverts: follow`",
		[]test{{here, "TestOldPointerRestored"}},
	},
	"replay to a fresh server": {
		"shows an old pointer to a server without a memory", "no first install by an expired pointer; expiry stops nothing that runs",
		[]test{{here, "TestReplayToAFreshServer"}},
	},
	"freeze": {
		"keeps the newest pointer back", "the ping carries it and is followed, and the older one in the bucket is called a suspected freeze, not a restore; what is shown on and on becomes `stale`",
		[]test{{here, "TestFreeze"}},
	},
	"fast-forward": {
		"drives the sequence to 2^63 with a stolen key", "change the key, then `towline recover APP --accept-seq N` on the server",
		[]test{{here, "TestFastForward"}, {"internal/deploy", "TestRecoverSetsTheMarkOfASoundState"}},
	},
	"cross-app, cross-environment": {
		"offers what is signed for another app, environment or prefix", "all three are in the signed payload and must equal the server's configuration; the artifact's key is rebuilt",
		[]test{{here, "TestCrossAppAndEnvironment"}},
	},
	"another environment's key": {
		"signs production with staging's key", "`trust:` of each app stands alone",
		[]test{{here, "TestAnotherEnvironmentsKey"}},
	},
	"two pointers with one seq": {
		"a second publisher signs another history", "fork alarm: refused, said in status and receipt, what runs goes on",
		[]test{{here, "TestTwoPointersWithOneSeq"}},
	},
	"a stale read that looks like a revert": {
		"a lagging replica shows an older pointer", "an older Last-Modified is believed after five equal looks over a minute",
		[]test{{here, "TestStaleReadIsNoRevert"}},
	},
	"artifact swapped, truncated, endless": {
		"gives other bytes, or never stops giving", "size and SHA-256 stand in the signed pointer and are checked before a byte is parsed; a newer pointer ends a slow download",
		[]test{{here, "TestArtifactSwappedOrTruncated"}},
	},
	"JSON tricks": {
		"duplicate keys, other case, trailing data", "a payload must encode to its own bytes again",
		[]test{{"internal/release", "TestJSONTricks"}},
	},
	"threshold and keys": {
		"threshold 0, one key counted twice", "checked when the configuration is read; distinct keys are counted, not signatures",
		[]test{{"internal/release", "TestThresholdAndDistinctKeys"}, {"internal/config", "TestThresholdAndDistinctKeys"}},
	},
	"payload type confusion": {
		"offers a signed release as a pointer", "the type is part of what is signed",
		[]test{{"internal/release", "TestPayloadTypeConfusion"}},
	},
	"forged, replayed, flooded ping": {
		"rings without a key, again, or 100,000 times", "a ping proves itself by its signature and is worth one look; limits for each address and for all",
		[]test{{"internal/agent", "TestPingFlood"}},
	},
	"a replayed ping asking for a stream": {
		"posts an old pointer to read what a deployment says", "no stream below the sequence that is followed",
		[]test{{"internal/agent", "TestReplayedPingGetsNoStream"}},
	},
	"what a stranger learns from the port": {
		"asks around", "two health routes without names; 401 without detail",
		[]test{{"internal/agent", "TestPortTellsNothing"}},
	},
	"hostile archive": {
		"paths that leave, link games, devices, bombs", "files, directories and inward links only, inside of one directory that the kernel holds; caps on everything",
		[]test{{"internal/artifact", "TestHostileArchives"}},
	},
	"malicious but signed app": {
		"ships code that attacks the server", "it runs as the app's user, who owns neither releases nor the agent's state",
		[]test{{"test/system", "TestSignedAppStaysInItsPlace"}},
	},
	"app user in group towline": {
		"commands the agent from within the app", "`towline app add` refuses it, and names what ends it",
		[]test{{"test/system", "TestAppUserInGroupTowline"}},
	},
	"unit that reaches too far": {
		"a unit that runs as root, or files of the app run with `+` or `!`", "refused or warned of loudly, before rights are given",
		[]test{{"test/system", "TestUnitsThatReachTooFar"}},
	},
	"app tampers with an old release": {
		"changes what the next rollback runs", "releases belong to the agent; a changed one is not gone back to",
		[]test{{"internal/agent", "TestTamperedReleaseIsNotRolledBackTo"}},
	},
	"local user races the stage": {
		"swaps files while a release is unpacked", "a private parent directory, an open descriptor, a look at every entry before it becomes a release",
		[]test{{"internal/appdir", "TestLocalUserRacesTheStage"}},
	},
	"stolen CI key": {
		"signs what he likes", "**he runs code as the app's user** until the key is changed, which takes no downtime; with `threshold: 2` one key is not enough, and a publisher with both signs again only what both have signed",
		[]test{{here, "TestStolenCIKey"}, {"internal/publish", "TestOneKeyOfTwoIsNotSignedForByTheOther"}},
	},
	"stolen agent key": {
		"has a server's key to the bucket", "it reads releases and writes one receipt: `towline init --print-policy`",
		[]test{{"internal/cli", "TestStolenAgentKey"}},
	},
	"a server that writes the pointer": {
		"a taken server tries to move the others", "its key may not write there, and nobody would believe it without a signature",
		[]test{{"internal/cli", "TestServerCannotWriteThePointer"}},
	},
	"compromised S3 endpoint": {
		"answers for the store", "signatures; no redirect to another host; no credentials where they do not belong; no answer and no listing without an end",
		[]test{{"internal/bucket", "TestCompromisedEndpoint"}, {"internal/bucket", "TestEndlessAnswers"}, {"internal/bucket", "TestNoAnswerOfSTSShowsTheToken"}},
	},
	"recycled repository name": {
		"registers a name that was given up, for its OIDC rights", "the trust policy that is printed pins the numeric IDs",
		[]test{{"internal/action", "TestRecycledRepositoryName"}},
	},
	"an app log that steers the runner": {
		"prints `::set-output::` and worse", "text of servers and commits is printed while commands are stopped, and escaped in the summary",
		[]test{{"internal/action", "TestAppLogCannotSteerTheRunner"}},
	},
	"secret leak": {
		"reads logs, receipts, pages", "no output holds a secret; the action masks them first",
		[]test{{here, "TestSecretsDoNotLeak"}, {"internal/config", "TestSecretsInTheFileAreNotShown"}},
	},
	"path injection": {
		"names, fields, links and redirects that lead elsewhere", "every name is checked on every way in, keys are rebuilt, links and redirects are not followed",
		[]test{{here, "TestPathInjection"}},
	},
	"poisoned action tag": {
		"moves the tag of an action that a workflow uses", "the workflows here name every third party by its commit",
		[]test{{here, "TestThirdPartyActionsArePinned"}},
	},
}
