// Package tidemark is the map of the repository; it holds no code. ARCHITECTURE.md tells
// the journey of a row, pipeline/doc.go defines the words.
package tidemark
