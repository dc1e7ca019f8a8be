// Package kafka writes records to Kafka: for `tidemark produce`, the demo and tests.
// Together with sources/kafka it is the only importer of kafka-go.
//
// Every write asks for the acknowledgement of all in-sync replicas; kafka-go's own default
// asks for none and loses records over a broker restart without an error.
//
// Delivery is at least once: kafka-go has no idempotent producer, so a retry after a lost
// answer can write a batch twice. Records of one partition keep their order.
//
// The connection pool comes from the caller; sources/kafka Connection.Transport builds one.
package kafka
