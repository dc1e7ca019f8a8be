// Package pdu is the feed of power distribution units: the fields of a reading's payload,
// and the way from window results to OCSF Device Inventory Info events.
package pdu
