// Package deploy is the engine of the server half: it decides which pointer to follow, makes its release live, and puts the
// old one back when the new one does not prove healthy.
//
// One Engine serves one app. A single loop (Run) reads the pointer when its timer fires or a ping wakes it, compares it
// with what is live and runs at most one deployment at a time:
//
//	fetch     what this server lacks of the artifact, into a stage            undo: delete it
//	unpack    shared paths linked, synced, named; hooks                       undo: delete the tree
//	activate  switch current, restart the unit                                undo: the same with the previous release
//	check     the health gate                                                 failing it is what triggers the undo
//	confirm   record the release as healthy, after-healthy hooks              -
//	prune     delete old releases                                             -
//
// The stage is the directory of the release that prune would delete next, brought forward (recycled), or an empty one. A
// directory that is to be recycled goes out of the state first, then becomes a stage, then is changed: what the state names is
// a whole release at any moment. An artifact without frames, or in a store that gives no parts of objects, is fetched whole
// into incoming/, resumable, checked, and unpacked into an empty stage then.
//
// A stage that is not finished when the agent dies, is stopped, or finds the store away, is taken up by the next deployment (begun.go):
// of what is in it, all that is good for that one, and nothing else, stays. The state says that there may be such a stage, never what is in it.
//
// What has been decided is written to the journal before it is done, so that an agent that dies at any point finds, when it
// starts again, what it was at: before activate it begins again, from activate on it activates and checks again. Every
// deployment ends with one outcome, one terminal event and one record.
//
// The engine imports no adapter: the bucket, the app's tree, the unit, the health gate and the journal come in through the
// small interfaces below.
package deploy
