package deploy

import "github.com/towline/towline/internal/deployment"

// course is what is to be done with a deployment, as an agent finds it when it starts, or comes to it.
type course int

const (
	courseStage    course = iota // fetch, unpack, then activate and check
	courseActivate               // switch current, restart, check
	courseConfirm                // it has been proven: write it down
	courseUndo                   // put the old release back
	courseGiveUp                 // end it: nothing live was touched
)

// recovery is the whole decision. phase is what the state says that was being done, failed that the state says it is to be
// undone, switched that current leads to the deployment's release.
//
// What the unit runs is not asked. Whatever it is, before Confirm the course ends with a restart and a check, so that a unit
// that runs the old release, the new one, or nothing is the same; and a release that was proven stays so when the machine
// starts its unit again from where current leads. Where current leads is asked only where it is believed: switching it again is
// harmless, calling a release live that it does not lead to is not.
func recovery(phase deployment.Step, failed, switched bool) course {
	untouched := phase == deployment.Fetch || phase == deployment.Unpack
	switch {
	case phase == deployment.Confirm && switched:
		return courseConfirm
	case failed && untouched:
		return courseGiveUp
	case failed:
		return courseUndo
	case untouched:
		return courseStage
	}
	return courseActivate
}
