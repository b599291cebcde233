package bucket

import (
	"context"
	"time"
)

// Upkeep is what looking after a bucket takes, beside using it: a doctor asks what may be done there without doing it, and a
// collector removes what nothing refers to any more. What Open gives is one.
type Upkeep interface {
	Bucket
	// Objects is List with what the store knows of each object.
	Objects(ctx context.Context, prefix string) ([]Info, error)
	// Delete removes an object; one that is not there is no error. Where the bucket keeps versions, this one is kept too.
	Delete(ctx context.Context, key string) error
	// Unfinished lists uploads below prefix that were begun and never ended: they cost money, and no listing shows them.
	// In a directory they have no key yet, so that prefix does not count.
	Unfinished(ctx context.Context, prefix string) ([]Upload, error)
	// Abort ends such an upload and frees what it took.
	Abort(ctx context.Context, u Upload) error
	// Clock gives the store's own time, to the second, also to those who may do nothing else.
	Clock(ctx context.Context) (time.Time, error)
	// Kept reports whether the store keeps versions of the object as it is now: whether it can come back after it was
	// overwritten. errors.ErrUnsupported where no object can.
	Kept(ctx context.Context, key string) (bool, error)
	// Try asks whether these credentials may write an object, without writing it. same must be what the object holds: a
	// store that does not mind conditions writes it, and that must change nothing.
	Try(ctx context.Context, key string, same []byte, c Condition) (Leave, error)
	// TryUpload asks whether these credentials may begin an upload of parts, and leaves none.
	TryUpload(ctx context.Context, key string) (Leave, error)
}

// Upload is one that was begun.
type Upload struct {
	Key   string // that it is for; in a directory, of the unfinished file
	ID    string
	Size  int64 // bytes so far; -1 where the store does not tell
	Begun time.Time
}

// Condition is one under which no write can succeed.
type Condition string

// The conditions of Try.
const (
	IfOther  Condition = "if-match"      // the object has an ETag that none has
	IfAbsent Condition = "if-none-match" // nothing is there, where something is
)

// Leave is what a store says to a write that must not happen.
type Leave string

// What a store may say.
const (
	Denied  Leave = "denied"  // these credentials may not
	Granted Leave = "granted" // they may, and the condition kept it from happening
	Wrote   Leave = "wrote"   // they may, and the store did not mind the condition
)

// noTag is an ETag that no object has.
const noTag = `"00000000000000000000000000000000"`
