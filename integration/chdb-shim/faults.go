package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Kinds of faults.
const (
	dropBefore   = "drop_before"          // the connection is cut, the statement does not run
	dropAfter    = "drop_after_commit"    // the statement runs, then the connection is cut
	http500After = "http500_after_commit" // the statement runs, the answer is a plain 500
	code252      = "code252"              // TOO_MANY_PARTS, the statement does not run
	stall        = "stall"                // no answer and no statement until the faults are cleared
	stallAfter   = "stall_after_commit"   // the statement runs, no answer until they are cleared
	closeMidBody = "close_mid_body"       // the connection is cut in the middle of the data
	runLate      = "run_late"             // the statement runs half a second after its sender has gone
	killBefore   = "kill_before"          // the engine dies by SIGKILL, the statement does not run
	killAfter    = "kill_after_commit"    // the statement runs, then the engine dies by SIGKILL
	defaultMatch = "INSERT INTO"          // what a fault hits when it does not say
)

// kinds are all of them.
var kinds = []string{dropBefore, dropAfter, http500After, code252, stall, stallAfter, closeMidBody, runLate, killBefore, killAfter}

// fault hits Left statements whose text contains Match, after Skip that it lets pass.
type fault struct {
	Kind  string `json:"kind"`
	Match string `json:"match"`
	Skip  int    `json:"skip"`
	Left  int    `json:"left"`
	Hits  int    `json:"hits"`
}

// faults is the fault control:
//
//	POST /?kind=KIND[&n=1][&skip=0][&match=INSERT INTO]   adds a fault
//	GET /                                                 lists them with their hits, as JSON
//	DELETE /                                              removes them and lets stalled requests go
//
// Of several that match the oldest is taken.
type faults struct {
	mu      sync.Mutex
	list    []*fault
	cleared chan struct{} // closed by clear
}

func newFaults() *faults { return &faults{cleared: make(chan struct{})} }

// hit returns the fault of a statement, "" for none, and what ends a stall.
func (f *faults) hit(statement string) (kind string, cleared <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.list {
		if x.Left == 0 || !strings.Contains(statement, x.Match) {
			continue
		}
		if x.Skip > 0 {
			x.Skip--
			continue
		}
		x.Left--
		x.Hits++
		return x.Kind, f.cleared
	}
	return "", nil
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
	close(f.cleared)
	f.cleared = make(chan struct{})
}

func (f *faults) add(x fault) error {
	if !slices.Contains(kinds, x.Kind) {
		return fmt.Errorf("fault %q is not known", x.Kind)
	}
	if x.Left < 1 {
		return fmt.Errorf("fault %s: n is %d, want at least 1", x.Kind, x.Left)
	}
	if x.Skip < 0 {
		return fmt.Errorf("fault %s: skip is %d, want at least 0", x.Kind, x.Skip)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, &x)
	return nil
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		f.mu.Lock()
		defer f.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(f.list); err != nil {
			return // the client is gone
		}
	case http.MethodDelete:
		f.clear()
	case http.MethodPost:
		q := r.URL.Query()
		x := fault{Kind: q.Get("kind"), Match: defaultMatch, Left: 1}
		if q.Has("match") {
			x.Match = q.Get("match")
		}
		var err error
		if q.Has("n") {
			x.Left, err = strconv.Atoi(q.Get("n"))
		}
		if err == nil && q.Has("skip") {
			x.Skip, err = strconv.Atoi(q.Get("skip"))
		}
		if err == nil {
			err = f.add(x)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	default:
		http.Error(w, "GET, POST or DELETE", http.StatusMethodNotAllowed)
	}
}
