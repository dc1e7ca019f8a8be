// Package s3store keeps objects in a bucket of S3 or of a service that speaks its protocol.
// cmd/runner gives it to sinks in place of a local directory.
//
// What the service must do, and what Ready tries out before a job reads anything: a put, and
// the completion of a multipart upload, with If-None-Match: * are refused when the object
// exists, however many ask at the same time; what was put is there for the next read and the
// next listing. Then the contract of pipeline.Store holds:
//
//   - An object appears as a whole: by one put up to 8 MiB, by the completion of a multipart
//     upload above.
//   - PutIfAbsent and Link make an object or say ErrExists. Every write carries a number of
//     its own in the object's metadata. When an answer is lost, or a repeated request is
//     refused because the first one had worked, the number tells whose object it is.
//   - Link copies. The bytes of objects above 8 MiB stay in the service: their copy is a
//     multipart upload whose parts the service copies, since services that know no condition
//     on CopyObject ignore it without a word. An object that is copied must not change.
//
// An upload that a process leaves behind is not visible, but is paid for: the bucket needs a
// lifecycle rule that aborts incomplete multipart uploads. Rules must not expire objects.
//
// Memory is one part of 8 MiB for each object that is being written, and what is read.
// This is the only package that imports the AWS SDK.
package s3store
