// Package pipelinetest proves the engine: a runner for text scenarios, a runner for golden
// cases, an oracle that works row by row and shares no code with the engine, a memory
// store, and conformance suites for sinks.
package pipelinetest
