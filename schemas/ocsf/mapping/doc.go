// Package mapping runs the mapping files of the AWS transformation library for Security
// Lake (aws-samples/amazon-security-lake-transformation-library) unchanged. Compile reads a
// file, a Mapper turns events into OCSF records as the library would, bit for bit. The
// records are what the file says: whether they are valid OCSF is schemas/ocsf's question.
//
// A file has a locator for the timestamp, its format, a locator for the matched value, and a
// tree of attributes for each matched value:
//
//	{"custom_source_events": {"source_name": S, "matched_field": L,
//	  "timestamp": {"field": L, "format": "epoch" | strptime pattern},
//	  "ocsf_mapping": {VALUE: {"schema": CLASS, "schema_mapping": TREE}}}}
//
// Rules of a tree:
//
//   - {"enum": {"evaluate": L, "values": {TEXT: ANY}, "other": ANY}}: the value under the
//     text at L, else other, else null. The value is copied, locators in it too.
//   - Any other object is an object of the record, also if all in it is null.
//   - Text that begins with "$." is a locator: the value as text, null if absent.
//   - Anything else is copied, lists whole.
//
// A locator is split at every dot: no indexes, quotes or escapes. A null on the way is
// absent.
//
// What compat keeps of the original, wanted or not:
//
//   - Located values become text in the form of Python: True, None, 1.0, 1e+16, lists and
//     objects in single quotes. Only $.UserDefined.NAME, which looks at the event's own
//     member NAME, keeps the type; what follows NAME is ignored.
//   - A way through what is no object, and $.UserDefined of an absent member, is null in the
//     record (not other, in an enum), and the reason error for the timestamp and the matched
//     value.
//   - An enum whose evaluate is text but no locator leaves its attribute out. One whose
//     evaluate or values is absent or of another type is null.
//   - The matched value and the timestamp count as absent when they are empty; 0 is not
//     empty, but it is with $.UserDefined, where a number also equals no key.
//   - The event day of epoch is UTC. It takes whole seconds: a fraction is an error except
//     with $.UserDefined, where it is cut off; milliseconds are out of the calendar's range,
//     and so is the first day of year 1.
//   - Other formats are strptime's in the C locale with UTC as its zone: the whole text must
//     match, but letters of either case, digits of any script, missing leading zeros and
//     any amount of white space do. %S takes 60 and 61 and fails then. Without a year it is
//     1900, so that 29 February fails. The day is the written one, whatever the offset says
//     (Config.UTCDay changes that). Years before 1000 have fewer than four digits.
//   - JSON is what Python takes for it: of a repeated name the last value counts (at the
//     place of the first), NaN and Infinity are numbers, 1e400 is infinite, half of a
//     surrogate pair is a character. Integers of more than 4300 digits are an error.
//   - A line that is no JSON is the event {"rawData": line}, line end included; without a
//     preprocessor only.
//   - An ALB line never fails as such: absent fields are "-" under their raw name. A host
//     without port is "-" for both parts, and so is the whole list of targets if one has no
//     port. A request with other than two single blanks stays whole. A quote that nothing
//     closes is skipped.
//   - A line of a Sysmon Description without ": " is the member Line<n>, where n counts
//     the members so far, so it may replace a member of that name.
//
// What differs: records are JSON, where an infinite number is written 1e999 and NaN null;
// events of more than MaxBytes or nested deeper than MaxDepth have the reason error; a
// timestamp that can be matched in more than some thousand ways is an error.
//
// Conform, the other mode, makes valid events of the records (ocsf.Conformer). Located values
// keep their type, what no locator reads goes to unmapped, and files may have more keys
// (CompileConform): rules, conditions, lists made of lists, observables. docs/mapping.md has
// them all. Nothing of Compat depends on it.
//
// Nothing here knows the runtime. Jobs call it where they decode (cmd/runner), and so does
// `tidemark map test`.
package mapping
