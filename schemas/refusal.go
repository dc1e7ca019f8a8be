package schemas

// Reasons why a payload is refused. They are the reasons of Dead rows, so they do not
// change from one release to the next.
const (
	ReasonEmpty         = "empty"           // no bytes, or nothing but white space
	ReasonNotObject     = "not_object"      // the first byte begins something else than an object
	ReasonMalformed     = "malformed_json"  // not JSON
	ReasonInvalidUTF8   = "invalid_utf8"    // bytes that are not UTF-8, or half a surrogate pair
	ReasonWrongType     = "wrong_type"      // the JSON type is not the one that the field wants
	ReasonMissingField  = "missing_field"   // a required field is null or absent
	ReasonDuplicateKey  = "duplicate_key"   // a name that the fields look at occurs twice
	ReasonTooDeep       = "too_deep"        // Limits.Depth
	ReasonTooManyKeys   = "too_many_keys"   // Limits.Keys
	ReasonStringTooLong = "string_too_long" // Limits.StringBytes
	ReasonOutOfRange    = "out_of_range"    // the number does not fit the column
	ReasonNotFinite     = "not_finite"      // NaN, Infinity, or a number beyond float64
	ReasonBadTime       = "bad_time"        // text that is not a time in the field's unit
	ReasonTimeRange     = "time_range"      // a time that microseconds in int64 cannot hold
	ReasonBatchFull     = "batch_full"      // the batch's text would pass 2 GiB
)

// Refusal says why a payload was not taken.
type Refusal struct {
	Reason string // one of the constants
	Detail string // what was found, where, and what is wanted
}

func (r *Refusal) Error() string { return r.Reason + ": " + r.Detail }

// DeadReason returns the reason under which the record becomes a Dead row.
func (r *Refusal) DeadReason() string { return r.Reason }
