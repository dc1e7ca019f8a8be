// Package peers runs the systems that Tidemark talks to, the real ones, for tests: an
// Apache Kafka broker, the ClickHouse engine and a service that speaks the protocol of S3.
//
// What they are made of comes from package registries (Maven, npm, Go) the first time and is
// kept in Cache, outside the tree. It needs Java 17, mvn and npm on the PATH. A peer that
// cannot be had is an error, never a skipped test.
//
// A peer runs as a process of its own, on ports below the range from which the kernel
// takes ports for outgoing connections: it can be killed and started again on the same
// ports and the same folder. All of them end with the test process, however that ends.
// What they print is in a file, whose end errors show.
package peers
