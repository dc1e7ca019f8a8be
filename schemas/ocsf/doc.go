// Package ocsf turns result rows into OCSF events, as columns.
//
// It holds the facts of the classes that Tidemark emits (5001 Device Inventory Info, 4001
// Network Activity) for the schema versions 1.1.0, 1.3.0 and 1.8.0, the attributes that
// every window event has, and a Mapper that fills a tree of attributes column by column.
// The feeds (schemas/ble, pdu, traffic) add what is theirs.
//
// Rules, the same for all versions:
//
//   - timestamp_t is int64 milliseconds since 1970 UTC, cut downwards.
//   - integer_t is int32. A value beyond it is left null and kept in unmapped. The one
//     exception is autonomous_system.number, which is int64: AS numbers have 32 bits.
//   - unmapped is map<string, string> and holds every result column that no attribute
//     took. Numbers with a fraction keep one digit behind the point at least (24.0).
//   - metadata.uid and metadata.sequence are functions of operator, key, window and
//     revision: the same in every replay.
//   - Columns _tm_del, if the results have it, and _tm_revision come last, unchanged. Sinks
//     need them. The event of a row with _tm_del withdraws the one with its uid; it is as
//     complete as any, and its message begins with "withdrawn: ".
package ocsf
