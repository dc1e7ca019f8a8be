// Package schemas turns payloads into columns. Decoder reads one JSON object at a time,
// directed by a list of fields: it walks the bytes once, keeps what the fields name, and
// skips the rest without building anything. Values go to plain slices that are wrapped
// as Arrow arrays once per batch.
//
// Rules:
//
//   - A payload is taken whole or refused whole. A refused payload leaves the columns as
//     they were and says why (Refusal).
//   - A payload is one JSON object (RFC 8259) with nothing behind it. Syntax, UTF-8 and
//     escapes are checked everywhere, also in parts that are skipped.
//   - An absent field and a JSON null are the same: a null in the column, or missing_field
//     when the field is required.
//   - A value of another JSON type than the column's is refused, never converted. Only a
//     Time may come quoted.
//   - A name that occurs twice is refused if the fields look at it; names inside skipped
//     parts are not compared.
//
// The packages below hold the default fields of each feed and the way back, from result
// columns to OCSF rows. None of them knows the runtime.
package schemas
