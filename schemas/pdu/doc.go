// Package pdu is the feed of power distribution units: the fields of a reading's payload,
// and the way of readings, window results and findings to OCSF events.
package pdu
