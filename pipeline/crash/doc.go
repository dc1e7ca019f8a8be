// Package crash names the steps between which a process may die, so that a test can make
// it die there. Without the build tag crash, At compiles to nothing.
//
// With the tag, TIDEMARK_CRASH=point:n kills the process with SIGKILL at the nth passing
// of the point.
package crash
