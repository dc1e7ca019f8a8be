// Package assets follows things that carry a radio tag: which gateway is nearest, in which
// fences they are, whether a cage is folded. Everything is a function of its state and the
// order of its input: no clock, and the same events in every replay.
//
// Times are ticks of 1 us (pipeline.Ticks), distances metres, angles degrees.
package assets
