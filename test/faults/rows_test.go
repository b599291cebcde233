package faults

import "github.com/towline/towline/test/proof"

// faults are what is known to happen, in the order of the document. Each must have a row.
var faults = []string{
	"killed at any call", "power lost at any write", "a write or a sync fails", "disk, quota or inodes are used up",
	"read-only, unmounted, or two filesystems", "`state.json` torn or gone", "`current` missing, elsewhere, or a directory",
	"a release directory changed or half deleted", "the store is away for hours", "5xx, throttling, resets, broken bodies",
	"stale reads", "a store that ignores conditions", "a pointer that is missing, refused, huge or no pointer",
	"two publishers at once", "an older commit's job ends last", "a wrong or jumping clock", "a service that crashes, hangs, exits or forks away",
	"the start limit is hit", "health that comes and goes", "both releases are bad", "a unit edited, masked or removed",
	"D-Bus or polkit in the way", "a reboot in a deployment", "the agent is replaced in a deployment", "two agents on one server",
	"a hundred apps, a storm of pings", "releases fill the disk", "somebody changes things by hand",
}

// row is what is promised of a fault, and the tests that prove it.
type row struct {
	promise string
	tests   []proof.Test
}

// rows are the table, by fault.
var rows = map[string]row{
	"killed at any call": {
		"what is live is the old release or the new one, whole; the next agent finishes the deployment by itself",
		[]proof.Test{
			{Dir: "test/crash", Name: "TestKilled"},
			{Dir: "internal/deploy", Name: "TestRecoveryTable"},
			{Dir: "internal/deploy", Name: "TestResumeAfterDeathAtEverySave"},
			{Dir: "internal/deploy", Name: "TestTenInterruptionsGiveUp"},
		},
	},
	"power lost at any write": {
		"the same, on ext4, XFS and btrfs, and no pointer is followed that is older than the newest one that was made live",
		[]proof.Test{
			{Dir: "test/crash", Name: "TestPowerCut"},
			{Dir: "test/crash", Name: "TestControl"},
			{Dir: "test/crash", Name: "TestOmissionsAreAll"},
		},
	},
	"a write or a sync fails": {
		"the deployment fails, what is live stays whole, the stage is thrown away and never synced again",
		[]proof.Test{
			{Dir: "test/crash", Name: "TestFaults"},
			{Dir: "internal/durable", Name: "TestWriteFileLeavesNothingBehindOnError"},
			{Dir: "internal/deploy", Name: "TestNothingIsBegunThatCouldNotBeWrittenDown"},
		},
	},
	"disk, quota or inodes are used up": {
		"the same; once there is room the agent goes on by itself",
		[]proof.Test{
			{Dir: "test/crash", Name: "TestFaults"},
			{Dir: "internal/deploy", Name: "TestNothingIsBegunThatCouldNotBeWrittenDown"},
		},
	},
	"read-only, unmounted, or two filesystems": {
		"a write to a disk that became read-only fails as any other; a mount inside of a release is refused; a directory that is not there is said",
		[]proof.Test{
			{Dir: "test/crash", Name: "TestFaults"},
			{Dir: "internal/appdir", Name: "TestSealRefusesAMount"},
			{Dir: "internal/appdir", Name: "TestOpenProblems"},
		},
	},
	"`state.json` torn or gone": {
		"it is found out, what runs goes on, and nothing is installed until a person has run `towline recover`",
		[]proof.Test{
			{Dir: "internal/journal", Name: "TestTornStateIsCorrupt"},
			{Dir: "internal/deploy", Name: "TestMissingStateLocksRemoteInstalls"},
			{Dir: "internal/deploy", Name: "TestStateThatCannotBeReadIsNotLost"},
		},
	},
	"`current` missing, elsewhere, or a directory": {
		"it is said; the next deployment leads a link right again, and fails, with nothing touched, where something stands that is no link",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestCurrentTouchedByHand"},
			{Dir: "internal/deploy", Name: "TestCurrentLedElsewhere"},
			{Dir: "internal/appdir", Name: "TestCurrentRefusesWhatItDidNotMake"},
		},
	},
	"a release directory changed or half deleted": {
		"its digest tells; it is not gone back to, and the next older sound one is",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestNextOlderSoundReleaseIsTaken"},
			{Dir: "internal/deploy", Name: "TestVerifyTellsWhatWasChanged"},
			{Dir: "internal/agent", Name: "TestTamperedReleaseIsNotRolledBackTo"},
		},
	},
	"the store is away for hours": {
		"the app runs on; the agent waits longer after each failure, says why, and goes on by itself",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestTroubleWithTheBucketIsTriedAgain"},
			{Dir: "internal/bucket", Name: "TestUnreachable"},
			{Dir: "internal/agent/outbox", Name: "TestReceiptsAreBounded"},
		},
	},
	"5xx, throttling, resets, broken bodies": {
		"three attempts in one place, a stalled body is given up, a download goes on where it broke off; the app is not touched",
		[]proof.Test{
			{Dir: "test/endurance", Name: "TestEndurance"},
			{Dir: "internal/bucket", Name: "TestRetries"},
			{Dir: "internal/bucket", Name: "TestStalls"},
			{Dir: "internal/agent", Name: "TestSourceResumes"},
		},
	},
	"stale reads": {
		"one that is older is not believed at once, and never without a restore that may be followed",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestStaleReadIsNotBelievedAtOnce"},
			{Dir: "internal/deploy", Name: "TestStaleReadAfterAPing"},
			{Dir: "test/threats", Name: "TestStaleReadIsNoRevert"},
		},
	},
	"a store that ignores conditions": {
		"it is told apart and said; two publishers at once are not promised anything there",
		[]proof.Test{
			{Dir: "internal/bucket", Name: "TestStoresWithoutConditionalWrites"},
			{Dir: "internal/bucket", Name: "TestStoresThatIgnoreConditionsOnReading"},
			{Dir: "internal/bucket", Name: "TestTryOnALooseStore"},
			{Dir: "internal/bucket", Name: "TestUnquotedETags"},
			{Dir: "internal/publish", Name: "TestStoreWithoutCreateOnly"},
		},
	},
	"a pointer that is missing, refused, huge or no pointer": {
		"each is named as what it is, reading ends at a limit, and what is live stays",
		[]proof.Test{
			{Dir: "internal/bucket", Name: "TestAnswersThatAreNotS3"},
			{Dir: "internal/bucket", Name: "TestRefusals"},
			{Dir: "internal/bucket", Name: "TestEndlessAnswers"},
			{Dir: "internal/release", Name: "TestPointerRefusals"},
		},
	},
	"two publishers at once": {
		"each has a sequence number of its own or ends `superseded`; no newer release is lost",
		[]proof.Test{
			{Dir: "internal/publish", Name: "TestPublishersRace"},
			{Dir: "internal/publish", Name: "TestNewerPublisherWins"},
		},
	},
	"an older commit's job ends last": {
		"it writes nothing",
		[]proof.Test{{Dir: "internal/publish", Name: "TestCommitBehindThePointerWritesNothing"}},
	},
	"a wrong or jumping clock": {
		"nothing that runs is stopped by it; an expired pointer only keeps a server without a healthy release from installing",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestDecide"},
			{Dir: "test/threats", Name: "TestReplayToAFreshServer"},
		},
	},
	"a service that crashes, hangs, exits or forks away": {
		"the old release is back within the deadline, with the reason",
		[]proof.Test{
			{Dir: "test/system", Name: "TestServiceOnSystemd"},
			{Dir: "test/system", Name: "TestUnitsThatDeployBadly"},
			{Dir: "internal/health", Name: "TestGate"},
			{Dir: "internal/service", Name: "TestSystemdCrashLoop"},
			{Dir: "internal/service", Name: "TestSystemdNeverReady"},
			{Dir: "internal/service", Name: "TestSystemdIgnoresSigterm"},
		},
	},
	"the start limit is hit": {
		"the failure is reset before the restart, so that the old release starts",
		[]proof.Test{{Dir: "internal/service", Name: "TestSystemdStartLimit"}},
	},
	"health that comes and goes": {
		"it must hold for the time `stable` says; what dies in it is rolled back",
		[]proof.Test{
			{Dir: "internal/health", Name: "TestGate"},
			{Dir: "internal/deploy", Name: "TestSickReleaseIsRolledBackAndQuarantined"},
		},
	},
	"both releases are bad": {
		"`broken`, said once; nothing goes back and forth by itself",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestBothReleasesSickIsBroken"},
			{Dir: "internal/deploy", Name: "TestPromotingTheOldReleaseAfterBrokenProvesItAgain"},
		},
	},
	"a unit edited, masked or removed": {
		"the deployment fails with the unit's name and trouble before anything is touched, or what is live is put back",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestUnitTroubleFailsBeforeAnythingIsTouched"},
			{Dir: "internal/deploy", Name: "TestTroubleOfTheServerIsNotHeldAgainstTheRelease"},
			{Dir: "internal/service", Name: "TestSystemdRefusals"},
		},
	},
	"D-Bus or polkit in the way": {
		"the connection is made again or given up in time; a refusal ends the deployment and is not held against the release",
		[]proof.Test{
			{Dir: "internal/service", Name: "TestSystemdReconnects"},
			{Dir: "internal/service", Name: "TestConnectGivesUpWithItsContext"},
			{Dir: "internal/service", Name: "TestSystemdPolkit"},
			{Dir: "internal/deploy", Name: "TestDeniedRestartIsNotTheReleasesFault"},
		},
	},
	"a reboot in a deployment": {
		"the unit starts from whatever `current` leads to, which is whole; the agent finishes before it looks at the pointer",
		[]proof.Test{
			{Dir: "test/crash", Name: "TestPowerCut"},
			{Dir: "internal/deploy", Name: "TestHeldPayloadIsNotTakenUpAfterADeath"},
			{Dir: "internal/deploy", Name: "TestProvenReleaseIsNotProvenAgainAfterADeathInConfirm"},
		},
	},
	"the agent is replaced in a deployment": {
		"it stops where it may, and the next one brings the deployment to one outcome",
		[]proof.Test{
			{Dir: "internal/agent", Name: "TestStopAtEveryStep"},
			{Dir: "internal/agent", Name: "TestThePortOutlivesTheAgent"},
		},
	},
	"two agents on one server": {
		"the second one ends and says why",
		[]proof.Test{
			{Dir: "internal/agent", Name: "TestOnceFindsAnotherAgent"},
			{Dir: "internal/appdir", Name: "TestLock"},
		},
	},
	"a hundred apps, a storm of pings": {
		"pings are limited for each address and for all; an app in trouble does not hold up the others",
		[]proof.Test{
			{Dir: "internal/agent", Name: "TestPingFlood"},
			{Dir: "internal/agent", Name: "TestOneBrokenAppDoesNotStopTheOthers"},
			{Dir: "internal/agent", Name: "TestConnectionsAreLimited"},
		},
	},
	"releases fill the disk": {
		"the live one, the one before and `keep` stay, and nothing else; memory, descriptors and files stay within a limit over a long row of deployments",
		[]proof.Test{
			{Dir: "test/endurance", Name: "TestEndurance"},
			{Dir: "internal/deploy", Name: "TestPruneKeepsCurrentAndPrevious"},
			{Dir: "internal/appdir", Name: "TestSweepLeavesWhatIsKeptAndLive"},
			{Dir: "internal/journal", Name: "TestRecordsKeepTheNewest"},
		},
	},
	"somebody changes things by hand": {
		"it is said, in status and receipt, and not fought",
		[]proof.Test{
			{Dir: "internal/deploy", Name: "TestCurrentTouchedByHand"},
			{Dir: "internal/deploy", Name: "TestLoopScrubsAndVerifies"},
			{Dir: "internal/service", Name: "TestSystemdStartedFrom"},
		},
	},
}
