// Package traffic is the feed of traffic counters: the fields of a payload that says what
// passed since the last one, and the way from window results to OCSF Network Activity
// events.
package traffic
