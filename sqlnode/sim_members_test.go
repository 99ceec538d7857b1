package sqlnode

import (
	"context"
	"fmt"
	"time"
)

// move has the leadership of a group moved, by way of any node.
func (w *simWorld) move(id string, _ func()) {
	up := w.s.up()
	if len(up) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	group := []string{"default", "default", "system"}[w.pick(3)]
	_, _ = up[w.pick(len(up))].ask(ctx, "POST", "/v1/groups/"+group+"/move-leader", `{"to":"`+w.ids()[w.pick(len(w.ids()))]+`"}`, nil) // may be refused
}

// drain has a node's groups take other voters, for a while.
func (w *simWorld) drain(id string, wait func()) {
	w.mu.Lock()
	skip := w.mu.removing[id] || isReplica(id) // which is drained for ever
	w.mu.Unlock()
	if skip {
		return
	}
	w.tell("POST", "/v1/nodes/"+id+"/drain")
	wait()
	time.Sleep(3 * time.Second)
	w.mu.Lock()
	skip = w.mu.removing[id]
	w.mu.Unlock()
	if !skip {
		w.tell("POST", "/v1/nodes/"+id+"/undrain")
	}
}

// tell has a request answered by any node, in some tries.
func (w *simWorld) tell(method, path string) bool {
	for range 20 {
		if up := w.s.up(); len(up) > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			status, _ := up[w.pick(len(up))].ask(ctx, method, path, "", nil)
			cancel()
			if status/100 == 2 || status == 404 {
				return true
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	return false
}

// replace removes a node for good, once a new one has joined.
func (w *simWorld) replace(id string, wait func()) {
	w.mu.Lock()
	if w.mu.replacing || w.mu.replaced == simReplacements {
		w.mu.Unlock()
		return
	}
	w.mu.replacing = true
	w.mu.replaced++
	fresh := fmt.Sprintf("m%d", w.mu.replaced)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.mu.replacing = false
		w.mu.Unlock()
	}()
	var err error
	for range 5 {
		var known []string
		for _, n := range w.s.up() {
			known = append(known, n.id.Node)
		}
		if len(known) == 0 {
			time.Sleep(time.Second)
			continue
		}
		if _, err = w.s.tryStart(fresh, known...); err == nil {
			break
		}
		w.say("%s can't join: %v", fresh, err)
	}
	if w.s.node(fresh) == nil {
		return
	}
	w.mu.Lock()
	w.mu.list = append(w.mu.list, fresh)
	w.mu.Unlock()
	wait()
	w.mu.Lock()
	w.mu.removing[id] = true
	w.mu.Unlock()
	if !w.tell("DELETE", "/v1/nodes/"+id) {
		w.mu.Lock()
		delete(w.mu.removing, id)
		w.mu.Unlock()
	}
}
