// Package ocsf turns result rows into OCSF events, as columns, proves that events are OCSF,
// and turns events into columns. The first part is Mapper, the second Schema and Validator,
// the third Columns.
//
// Mapping. The package holds the classes of window events (5001 Device Inventory Info, 4001
// Network Activity), the attributes that every window event has, and a Mapper that fills a
// tree of attributes column by column. The feeds (schemas/ble, pdu, traffic) add what is
// theirs.
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
//   - Columns of the engine (_tm_final, _tm_del, _tm_revision last) stay beside, unchanged. Sinks
//     need them. The event of a row with _tm_del withdraws the one with its uid; it is as
//     complete as any, and its message begins with "withdrawn: ".
//
// Validation. A Schema is built in (every class of 1.1.0, 1.3.0 and 1.8.0, as tables of
// facts that gen makes from the official export) or read from an export; extensions are
// merged in. A Validator reads an event as JSON and reports what the second validator of
// the OCSF server reports, with its codes and paths. Where that one leaves a choice:
//
//   - A name that occurs twice is the error attribute_duplicate; the last value counts.
//     Inside objects without a schema (unmapped) names are not compared.
//   - An array or object where an enum has one value is of the wrong type and no value of
//     the enum: two errors. What is no list where an enum has a list is of the wrong type.
//   - max_len counts characters (code points). Regular expressions are Go's, so $ is the
//     end of the text and not also a line end before it.
//   - A number that no double holds (1e400) is no float_t. -0 is the integer 0.
//   - metadata.version that is no semantic version is version_invalid_format.
//   - Names of observables may have indexes (resources[0].uid, resources[].uid) where the
//     attribute is a list.
//   - Events nested deeper than 128 are refused like what is no JSON.
//
// Columns. What is an event already, made by a mapping file, becomes rows of a declared
// subset of its class (Columns), and rows become events again (AppendEvent). What no column
// takes is text in unmapped.
package ocsf
