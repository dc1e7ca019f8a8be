// Package traffic is the feed of traffic counters: the fields of a payload that says what
// passed since the last one, and the way of deltas, window results and outages to OCSF
// events.
package traffic
