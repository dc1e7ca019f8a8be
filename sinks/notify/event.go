package notify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Types of what a finding is about.
const (
	TypeLocation = "LOCATION"
	TypeAS       = "AS"
	TypeDevice   = "DEVICE"
)

// classFinding is the class of OCSF that the sink takes.
const classFinding = 2004

// event is what is used of a Detection Finding.
type event struct {
	ClassUID   int   `json:"class_uid"`
	ActivityID int   `json:"activity_id"`
	Time       int64 `json:"time"` // ms
	Metadata   struct {
		Sequence int64 `json:"sequence"` // how often the finding was told of before
	} `json:"metadata"`
	StartTime int64 `json:"start_time"`
	EndTime   int64 `json:"end_time"`
	Info      struct {
		UID      string `json:"uid"`
		Title    string `json:"title"`
		Desc     string `json:"desc"`
		Analytic struct {
			Name string `json:"name"`
		} `json:"analytic"`
	} `json:"finding_info"`
	Message  string `json:"message"`
	Severity string `json:"severity"`
	Device   struct {
		UID      string   `json:"uid"`
		Location location `json:"location"`
	} `json:"device"`
	Resources []struct {
		UID  string `json:"uid"`
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"resources"`
	Evidences []struct {
		Endpoint struct {
			Location location `json:"location"`
		} `json:"dst_endpoint"`
	} `json:"evidences"`
	Unmapped map[string]string `json:"unmapped"`
}

type location struct {
	Country string `json:"country"`
}

// readEvent reads a finding; ok is false for an event of another class or activity, of which
// nobody is told.
func readEvent(text []byte) (e event, ok bool, err error) {
	if err := json.Unmarshal(text, &e); err != nil {
		return e, false, fmt.Errorf("event: %w", err)
	}
	return e, e.ClassUID == classFinding && e.transition() != "" && e.Info.UID != "", nil
}

// transition is what happened, empty for an activity that is none.
func (e event) transition() Transition {
	switch e.ActivityID {
	case 1:
		return Create
	case 2:
		return Update
	case 3:
		return Close
	}
	return ""
}

// silenced tells whether somebody asked not to be told.
func (e event) silenced() bool { return e.Unmapped["silenced"] == "true" }

// about is what the finding is about: its type, its name, and the words of a person for it.
func (e event) about() (typ, id, name string) {
	for _, r := range e.Resources {
		if _, as := asNumber(r.UID); as {
			return TypeAS, r.UID, strings.TrimSpace(r.UID + " " + r.Name)
		}
		if r.Type == "location" {
			return TypeLocation, r.UID, strings.TrimSpace(r.UID + " " + r.Name)
		}
		id, name = r.UID, strings.TrimSpace(r.UID+" "+r.Name)
	}
	if id == "" {
		id, name = e.Device.UID, e.Device.UID
	}
	return TypeDevice, id, name
}

// countries are the locations of the finding.
func (e event) countries() []string {
	var out []string
	if typ, id, _ := e.about(); typ == TypeLocation {
		out = append(out, id)
	}
	if c := e.Device.Location.Country; c != "" {
		out = append(out, c)
	}
	for _, v := range e.Evidences {
		if c := v.Endpoint.Location.Country; c != "" {
			out = append(out, c)
		}
	}
	return out
}

// asNumber reads AS64500.
func asNumber(uid string) (uint32, bool) {
	digits, ok := strings.CutPrefix(uid, "AS")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), err == nil
}

// takes tells whether a policy asks for the finding.
func (p Policy) takes(e event) bool {
	typ, id, _ := e.about()
	asn, _ := asNumber(id)
	in := func(list []string, of ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(of, func(s string) bool { return slices.Contains(list, s) })
	}
	transitions := p.Transitions
	if len(transitions) == 0 {
		transitions = []Transition{Create}
	}
	return slices.Contains(transitions, e.transition()) && in(p.Rules, e.Info.Analytic.Name) && in(p.Types, typ) &&
		in(p.Locations, e.countries()...) && (len(p.ASNs) == 0 || typ == TypeAS && slices.Contains(p.ASNs, asn))
}

// at is the event time of the transition.
func (e event) at() time.Time { return time.UnixMilli(max(e.Time, e.StartTime, e.EndTime)).UTC() }
