package deploy

import "context"

// prune deletes release directories beyond the newest keep, counting only releases that were live and healthy. The live
// release, the one before it and the one that the running process was started from always stay. It says of each what became
// of it, and why.
func (e *Engine) prune(ctx context.Context, keep int) (told []string) {
	live, err := e.Tree.Current()
	if err != nil {
		return nil
	}
	started, _ := e.Service.StartedFrom(ctx)
	s := &e.state
	current, _ := s.treeNamed(live)
	stays := func(t tree, why string) { told = append(told, "kept     "+t.Name+": "+why) }
	for _, f := range s.fates(live, s.previous(current.ID), keep, 0) {
		t := f.tree
		if f.stays != "" {
			stays(t, f.stays)
			continue
		}
		if started != "" && within(started, e.Tree.ReleasePath(t.Name)) {
			stays(t, "the running process was started from it")
			continue
		}
		if err := e.change(func(l *ledger) { l.dropTree(t.Name) }); err != nil {
			e.Log.Warn("prune", "app", e.Key, "error", err)
			return append(told, "stopped  "+err.Error())
		}
		if err := e.Tree.Remove(t.Name); err != nil {
			e.Log.Warn("prune", "app", e.Key, "release", t.Name, "error", err)
			stays(t, err.Error())
			continue
		}
		told = append(told, "removed  "+t.Name)
		e.Log.Info("pruned", "app", e.Key, "release", t.Name)
	}
	e.keepListings()
	return told
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}
