// Package notify tells people and programs about findings: by webhook and by e-mail.
//
// It is a sink of OCSF Detection Findings (class 2004). Of every finding that a policy asks for,
// each receiver gets one notification per transition (create, update, close), at least once:
// what is to be sent is in the checkpoint, and is tried again until it was taken, for a day, with pauses that double. Then it is a dead letter. A receiver knows
// repetitions by the Idempotency-Key: the uid of the finding, the transition, and the number of an
// update.
//
// Nothing is sent twice because rows are read twice: what was sent is remembered under a name
// that does not depend on the run. Nothing is sent of the past: a finding that is older than
// MaxAge when it is made, as those of a replay are, is counted as stale.
//
// Objects in the store, below notify/:
//
//	outbox/<id>.json  one that is to be sent
//	sent/<id>         one that was sent
//	dead/<id>.json    one that nobody took, with the last error
//
// A webhook is a URL that somebody else may control. Connections are made to public addresses
// only, whatever a name resolves to at that moment; networks of one's own are named in AllowNetworks.
// Redirects are not followed, and of an answer no more than its status is used.
package notify
