//go:build race

package main

// The race detector makes everything several times slower; the gate runs without it.
const slower = 5
