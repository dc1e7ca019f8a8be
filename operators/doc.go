// Package operators holds the steps between a source and a sink: Decode turns payloads
// into rows, the windows fold rows into results by key and event time, Normalize turns
// results into the rows of a sink's schema.
//
// Every operator is pure: no goroutine, clock, I/O or log; the same calls in the same
// order give the same output, byte for byte. The runtime (package pipeline) calls it from
// one goroutine, hands it time as marks and ticks, and takes its batches and counts
// through an Emitter.
//
// Nothing vanishes: a record or row that does not go on leaves on the Late or Dead port
// with a reason, or is counted with a fate.
package operators
