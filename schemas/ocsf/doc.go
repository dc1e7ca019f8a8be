// Package ocsf turns result rows into OCSF events, as columns, proves that events are OCSF,
// and turns events into columns. The first part is Mapper, the second Schema and Validator,
// the third Columns.
//
// Mapping. The package has what events of a kind have in common, and a Mapper that fills a
// tree of attributes column by column. The kinds: a row for each record (NewRowMapper), a
// window (NewWindowMapper), a change of state (NewStateMapper) and a finding
// (NewFindingMapper). The feeds (schemas/ble, pdu, traffic) add what is theirs.
//
// There are two dialects. core has published classes only: 5001 Device Inventory Info, 4001
// Network Activity, 2004 Detection Finding; no published class takes readings of sensors, so
// these are in unmapped. ext has classes of our extension in place of 5001: Asset
// Observation, Device Measurement, Asset State Change. There is a version of ext for every
// version of the core. Traffic and findings are the same in both.
//
// Rules, the same for all versions:
//
//   - timestamp_t is int64 milliseconds since 1970 UTC, cut downwards.
//   - integer_t is int32. A value beyond it is left null and kept in unmapped. The one
//     exception is autonomous_system.number, which is int64: AS numbers have 32 bits.
//   - float_t is a double; a fixed point number is the double next to it. NaN and infinity
//     are null, and kept in unmapped.
//   - Texts are not cut. 1.1.0 and 1.3.0 take no more than 65,535 characters; the decoder's
//     limit on strings is the job's.
//   - unmapped is map<string, string> and holds every column that no attribute took, and in
//     each row what the attribute that took a column cannot hold (Inputs). Numbers with a
//     fraction keep one digit behind the point at least (24.0).
//   - metadata.uid and metadata.sequence are functions of the record's place, of operator,
//     key, window and revision, of a state's kind, key and time, of a finding's id and
//     number: the same in every replay. No clock decides anything.
//   - An event is valid whatever is null in a row. An id that OCSF must have is "unknown"
//     where the row has none.
//   - Columns of the engine stay beside, unchanged: _split and _offset of rows (KeepPlace),
//     others _tm_final, _tm_del, _tm_revision, last. Sinks need them. The event of a row with
//     _tm_del withdraws the one with its uid; it is as complete as any, and its message
//     begins with "withdrawn".
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
// Conforming. A Conformer makes events that a Validator finds no error in of records that
// roughly have their shape, such as mapping files give; its comment has the rules. Reach
// says which attributes such events can have, so that a table can be made for them.
//
// Columns. What is an event already, made by a mapping file, becomes rows of a declared
// subset of its class (Columns), and rows become events again (AppendEvent). What no column
// takes is text in unmapped.
package ocsf
