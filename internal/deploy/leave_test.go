package deploy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/towline/towline/internal/deployment"
)

// An engine that is told to leave brings what it has begun to its outcome, begins nothing else, and answers nobody after that.
func TestLeaveEndsAfterTheDeploymentUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.publish(1, "aaaaaaa")
		begun, goOn := make(chan struct{}), make(chan struct{})
		r.onFetch = func(context.Context, string) { close(begun); <-goOn }
		done := make(chan error, 1)
		go func() { done <- r.engine.Run(t.Context()) }()
		<-begun
		r.engine.Leave()
		r.engine.Leave()
		asked := make(chan error, 1)
		go func() {
			_, err := r.engine.Do(t.Context(), "hold", deployment.Command{})
			asked <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it left during the deployment: %v", err)
		default:
		}
		close(goOn)
		if err := <-done; err != nil {
			t.Errorf("got %v from a run that left", err)
		}
		r.live("aaaaaaa")
		if got := r.last(); got.Outcome != deployment.Deployed {
			t.Errorf("got %+v last, want deployed", got)
		}
		if err := <-asked; !errors.Is(err, ErrLeft) {
			t.Errorf("a command meanwhile: got %v, want ErrLeft", err)
		}
	})
}

// What an earlier process has left half done is brought to its outcome too.
func TestLeaveFinishesWhatAnEarlierProcessLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.publish(1, "aaaaaaa")
		ctx, cancel := context.WithCancel(t.Context())
		r.onFetch = func(context.Context, string) { cancel() }
		if err := r.engine.Run(ctx); err != nil || r.engine.state.Attempt == nil {
			t.Fatalf("got %v, want an interrupted deployment", err)
		}
		r.onFetch = nil
		r.start()
		r.engine.Leave()
		if err := r.engine.Run(t.Context()); err != nil {
			t.Error(err)
		}
		r.live("aaaaaaa")
	})
}
