// Package traffic turns counters into deltas and 15-minute slots, and finds drops in series of
// slots. Everything is a function of its state and the order of its input: no clock, no
// goroutine, and the same ids in every replay.
//
// Times are ticks of 1 us (pipeline.Ticks). A slot is known by its start.
package traffic
