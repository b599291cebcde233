package faults

import (
	"slices"

	"github.com/towline/towline/test/proof"
)

// faults are what is known to happen, in the order of the document. Each must have a row.
var faults = []string{
	"killed at any call", "power lost at any write", "a write or a sync fails", "disk, quota or inodes are used up",
	"read-only, unmounted, or two filesystems", "`state.json` torn or gone", "`current` missing, elsewhere, or a directory",
	"a release directory changed or half deleted", "the store is away for hours", "5xx, throttling, resets, broken bodies",
	"stale reads", "a store that ignores conditions", "a pointer that is missing, refused, huge or no pointer",
	"two publishers at once", "an older commit's job ends last", "a publisher dies or is cancelled", "a wrong or jumping clock",
	"a service that crashes, hangs, exits or forks away",
	"the start limit is hit", "health that comes and goes", "both releases are bad", "a unit edited, masked or removed",
	"D-Bus or polkit in the way", "a reboot in a deployment", "the agent is replaced in a deployment", "two agents on one server",
	"a hundred apps, a storm of pings", "releases fill the disk", "somebody changes things by hand",
}

// row is what is promised of a fault, and the tests that prove it.
type row struct {
	promise string
	tests   []proof.Test
}

// in are tests of one directory.
func in(dir string, names ...string) (out []proof.Test) {
	for _, name := range names {
		out = append(out, proof.Test{Dir: dir, Name: name})
	}
	return out
}

// of are cases of one test.
func of(dir, name string, cases ...string) (out []proof.Test) {
	for _, c := range cases {
		out = append(out, proof.Test{Dir: dir, Name: name, Case: c})
	}
	return out
}

// rows are the table, by fault.
var rows = map[string]row{
	"killed at any call": {
		"what is live is the old release or the new one, whole; the next agent finishes the deployment by itself, and does not fetch again what was written",
		slices.Concat(
			in("test/crash", "TestKilled"),
			in("internal/deploy", "TestRecovery", "TestRecoveryTable", "TestResumeAfterDeathAtEverySave", "TestTenInterruptionsGiveUp", "TestStageThatWasBegun", "TestStageThatNobodyAwaits"),
			in("internal/artifact", "TestSalvage"),
			in("internal/agent", "TestDownloadThatIsTakenUp"),
		),
	},
	"power lost at any write": {
		"the same, on ext4, XFS and btrfs, and no pointer is followed that is older than the newest one that was made live",
		slices.Concat(
			in("test/crash", "TestPowerCut", "TestControl", "TestOmissionsAreAll"),
		),
	},
	"a write or a sync fails": {
		"the deployment fails, what is live stays whole, the stage is thrown away and never synced again",
		slices.Concat(
			in("test/crash", "TestFaults"),
			in("internal/durable", "TestWriteFileLeavesNothingBehindOnError"),
			in("internal/deploy", "TestNothingIsBegunThatCouldNotBeWrittenDown"),
		),
	},
	"disk, quota or inodes are used up": {
		"a release that does not fit is refused before a byte of it is fetched; one that meets a full disk on the way fails and leaves nothing; once there is room the agent goes on by itself",
		slices.Concat(
			in("test/crash", "TestFaults"),
			in("internal/deploy", "TestNothingIsBegunThatCouldNotBeWrittenDown"),
			in("test/host", "TestNoSpaceBefore", "TestNoSpaceDuring", "TestNoSpaceForTheState"),
		),
	},
	"read-only, unmounted, or two filesystems": {
		"a write to a disk that became read-only fails as any other; nothing is installed where a disk is not mounted; an app directory on two filesystems and a mount inside of a release are refused",
		slices.Concat(
			in("test/crash", "TestFaults"),
			in("internal/deploy", "TestEmptiedDirectoryIsNotInstalledInto"),
			in("internal/appdir", "TestSealRefusesAMount", "TestOpenProblems"),
			in("test/host", "TestReadOnly", "TestLostMount", "TestTwoFilesystems"),
		),
	},
	"`state.json` torn or gone": {
		"it is found out, what runs goes on, and nothing is installed until a person has run `towline recover`",
		slices.Concat(
			in("internal/journal", "TestTornStateIsCorrupt"),
			in("internal/deploy", "TestMissingStateLocksRemoteInstalls", "TestStateThatCannotBeReadIsNotLost"),
			in("test/host", "TestTornState"),
		),
	},
	"`current` missing, elsewhere, or a directory": {
		"it is said; the next deployment leads a link right again, and fails, with nothing touched, where something stands that is no link",
		slices.Concat(
			in("internal/deploy", "TestCurrentTouchedByHand", "TestCurrentRemovedIsGoneBackTo", "TestCurrentLedElsewhere"),
			in("internal/appdir", "TestCurrentRefusesWhatItDidNotMake"),
			of("test/host", "TestByHand", "missing", "dangling", "absolute", "outside", "a directory", "a file"),
		),
	},
	"a release directory changed or half deleted": {
		"its digest tells; it is not gone back to, and the next older sound one is",
		slices.Concat(
			in("internal/deploy", "TestNextOlderSoundReleaseIsTaken", "TestVerifyTellsWhatWasChanged"),
			in("internal/agent", "TestTamperedReleaseIsNotRolledBackTo"),
			of("test/host", "TestByHand", "the live release half deleted", "the previous release half deleted",
				"the live release deleted"),
		),
	},
	"the store is away for hours": {
		"the app runs on; the agent waits longer after each failure, says why, and goes on by itself",
		slices.Concat(
			in("internal/deploy", "TestStoreDownForHours", "TestTroubleWithTheBucketIsTriedAgain"),
			in("internal/bucket", "TestUnreachable"),
			in("internal/agent/outbox", "TestReceiptsAreBounded"),
			of("test/store", "TestMisbehavingStore", "store away"),
		),
	},
	"5xx, throttling, resets, broken bodies": {
		"three attempts in one place, a stalled body is given up, a download goes on where it broke off; the app is not touched",
		slices.Concat(
			in("test/endurance", "TestEndurance"),
			in("internal/bucket", "TestRetries", "TestStalls", "TestLostAnswers"),
			in("internal/agent", "TestSourceResumes"),
			of("test/store", "TestMisbehavingStore", "503 storm", "429 storm", "truncated three times", "reset in the middle",
				"stalled in the middle", "drip", "resets all the time"),
		),
	},
	"stale reads": {
		"one that is older is not believed at once, and never without a restore that may be followed",
		slices.Concat(
			in("internal/deploy", "TestStaleReadIsNotBelievedAtOnce", "TestStaleReadAfterAPing"),
			in("test/threats", "TestStaleReadIsNoRevert"),
			of("test/store", "TestMisbehavingStore", "stale reads"),
		),
	},
	"a store that ignores conditions": {
		"it is told apart and said; a publisher that was overwritten finds out; two at once are not promised anything there",
		slices.Concat(
			in("internal/bucket", "TestStoresWithoutConditionalWrites", "TestStoresThatIgnoreConditionsOnReading",
				"TestTryOnALooseStore", "TestUnquotedETags"),
			in("internal/publish", "TestStoreWithoutCreateOnly"),
			in("test/publishers", "TestStoreThatIgnoresCreateOnly", "TestStoreThatIgnoresIfMatch", "TestSimulatedLooseStores"),
			of("test/store", "TestMisbehavingStore", "conditions ignored", "unquoted etags only"),
		),
	},
	"a pointer that is missing, refused, huge or no pointer": {
		"each is named as what it is, reading ends at a limit, and what is live stays",
		slices.Concat(
			in("internal/bucket", "TestAnswersThatAreNotS3", "TestRefusals", "TestEndlessAnswers"),
			in("internal/release", "TestPointerRefusals"),
			of("test/store", "TestMisbehavingStore", "missing", "pointer 403", "pointer empty", "pointer of 10 GiB",
				"pointer without end", "pointer a web page"),
		),
	},
	"two publishers at once": {
		"on a store with create-only writes each has a sequence number of its own or ends `superseded` and names the winner's run; no newer release is lost",
		slices.Concat(
			in("internal/publish", "TestPublishersRace", "TestNewerPublisherWins"),
			in("test/publishers", "TestSixteenPublishersAtOnce", "TestSixteenPublishersMixed", "TestSimulatedPublishers",
				"TestSimulatedMixture"),
		),
	},
	"an older commit's job ends last": {
		"it writes nothing",
		slices.Concat(
			in("internal/publish", "TestCommitBehindThePointerWritesNothing"),
			in("test/publishers", "TestOldCommitsLateJob"),
		),
	},
	"a publisher dies or is cancelled": {
		"the pointer is as it was before or as it is after; the next run says what it found and completes it",
		slices.Concat(
			in("test/publishers", "TestCutAtEveryRequest"),
			in("internal/publish", "TestNextRunSaysWhatItFound", "TestCancelledSaysHowFarItCame",
				"TestHigherHistoryIsCopiedOverThePointer"),
			of("test/store", "TestMisbehavingStore", "answer of the history lost", "answer of the pointer lost", "503 after the history"),
		),
	},
	"a wrong or jumping clock": {
		"nothing that runs is stopped by it; an expired pointer only keeps a server without a healthy release from installing",
		slices.Concat(
			in("internal/deploy", "TestDecide", "TestClockPutBackDuringADeployment"),
			in("test/threats", "TestReplayToAFreshServer"),
			in("test/host", "TestClockOfTheStore", "TestClockOfThePublisher", "TestClockJumps", "TestClockPutBack"),
		),
	},
	"a service that crashes, hangs, exits or forks away": {
		"the old release is back within the deadline, with the reason",
		slices.Concat(
			in("test/system", "TestServiceOnSystemd", "TestUnitsThatDeployBadly"),
			in("internal/health", "TestGate"),
			in("internal/service", "TestSystemdCrashLoop", "TestSystemdNeverReady", "TestSystemdIgnoresSigterm"),
			of("test/zoo", "TestZoo", "loop", "late", "unready", "zero", "zeros", "daemon", "forker", "orphan", "deaf", "stubborn",
				"ghost", "socket", "glutton"),
			in("test/zoo", "TestRollBackTime"),
		),
	},
	"the start limit is hit": {
		"the failure is reset before the restart, so that the old release starts",
		slices.Concat(
			in("internal/service", "TestSystemdStartLimit"),
			of("test/zoo", "TestZoo", "limit", "limited"),
		),
	},
	"health that comes and goes": {
		"it must hold for the time `stable` says; what dies in it is rolled back",
		slices.Concat(
			in("internal/health", "TestGate"),
			in("internal/deploy", "TestSickReleaseIsRolledBackAndQuarantined"),
			of("test/zoo", "TestZoo", "flap", "soak"),
		),
	},
	"both releases are bad": {
		"`broken`, said once; nothing goes back and forth by itself",
		slices.Concat(
			in("internal/deploy", "TestBothReleasesSickIsBroken", "TestPromotingTheOldReleaseAfterBrokenProvesItAgain"),
			of("test/zoo", "TestZoo", "both", "both is left alone"),
		),
	},
	"a unit edited, masked or removed": {
		"the deployment fails with the unit's name and trouble before anything is touched, or what is live is put back",
		slices.Concat(
			in("internal/deploy", "TestUnitTroubleFailsBeforeAnythingIsTouched", "TestUnitThatWasNotRestartedIsLeftAlone",
				"TestTroubleOfTheServerIsNotHeldAgainstTheRelease"),
			in("internal/service", "TestSystemdRefusals"),
			of("test/zoo", "TestZoo", "edited", "masked", "removed", "spoilt"),
		),
	},
	"D-Bus or polkit in the way": {
		"the connection is made again or given up in time; a refusal ends the deployment and is not held against the release",
		slices.Concat(
			in("internal/service", "TestSystemdReconnects", "TestConnectGivesUpWithItsContext", "TestSystemdPolkit"),
			in("internal/deploy", "TestDeniedRestartIsNotTheReleasesFault", "TestCurrentLeadsBackWhileTheServiceManagerIsAway"),
			of("test/zoo", "TestBus", "dbus dies", "dbus is frozen", "polkit is frozen"),
			of("test/zoo", "TestZoo", "denied"),
		),
	},
	"a reboot in a deployment": {
		"the unit starts from whatever `current` leads to, which is whole; the agent finishes before it looks at the pointer",
		slices.Concat(
			in("test/crash", "TestPowerCut"),
			in("internal/deploy", "TestHeldPayloadIsNotTakenUpAfterADeath", "TestProvenReleaseIsNotProvenAgainAfterADeathInConfirm"),
			of("test/host", "TestDeathAtEveryStep", "power", "kill"),
		),
	},
	"the agent is replaced in a deployment": {
		"it stops where it may, and the next one brings the deployment to one outcome",
		slices.Concat(
			in("internal/agent", "TestStopAtEveryStep", "TestThePortOutlivesTheAgent"),
			of("test/host", "TestDeathAtEveryStep", "restart"),
		),
	},
	"two agents on one server": {
		"the second one ends and says why",
		slices.Concat(
			in("internal/agent", "TestOnceFindsAnotherAgent"),
			in("internal/appdir", "TestLock"),
			in("test/host", "TestTwoAgents"),
		),
	},
	"a hundred apps, a storm of pings": {
		"pings are limited for each address and for all; an app in trouble does not hold up the others",
		slices.Concat(
			in("internal/agent", "TestPingFlood", "TestOneBrokenAppDoesNotStopTheOthers",
				"TestTroubleOfAUnitOrAPointerStaysWithItsApp", "TestConnectionsAreLimited"),
			in("test/host", "TestHundredApps"),
		),
	},
	"releases fill the disk": {
		"the live one, the one before and `keep` stay, and nothing else; memory, descriptors and files stay within a limit over a long row of deployments",
		slices.Concat(
			in("test/endurance", "TestEndurance"),
			in("internal/deploy", "TestPruneKeepsCurrentAndPrevious", "TestFullStateIsSavedAndLoaded", "TestTrailIsBounded"),
			in("internal/appdir", "TestSweepLeavesWhatIsKeptAndLive"),
			in("internal/journal", "TestRecordsKeepTheNewest"),
		),
	},
	"somebody changes things by hand": {
		"it is said, in status and receipt, and not fought",
		slices.Concat(
			in("internal/deploy", "TestCurrentTouchedByHand", "TestLoopScrubsAndVerifies"),
			in("internal/service", "TestSystemdStartedFrom"),
			in("test/host", "TestByHand"),
		),
	},
}
