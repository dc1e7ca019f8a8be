package kafka

import (
	"bytes"
	"fmt"
	"testing"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tidemark/tidemark/pipeline"
)

// FuzzDecompress: whatever the bytes, no codec gives more than its limit, what was there stays,
// and a decompressor that met rubbish still reads what is whole.
func FuzzDecompress(f *testing.F) {
	packed := map[int][]byte{}
	text := bytes.Repeat([]byte("a line of telemetry\n"), 60)
	for codec, c := range map[int]kafkago.Compression{codecGzip: kafkago.Gzip, codecSnappy: kafkago.Snappy, codecLZ4: kafkago.Lz4, codecZstd: kafkago.Zstd} {
		var buf bytes.Buffer
		w := c.Codec().NewWriter(&buf)
		if _, err := w.Write(text); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		packed[codec] = bytes.Clone(buf.Bytes())
		f.Add(codec, uint16(2000), packed[codec])
		f.Add(codec, uint16(100), packed[codec])
	}
	f.Add(codecSnappy, uint16(100), append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff))
	f.Add(9, uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, codec int, limit uint16, src []byte) {
		if len(src) > 1<<16 {
			return
		}
		d := newDecompressor(int(limit))
		defer d.close()
		dst := []byte("kept")
		out, err := d.append(dst, src, codec)
		if !bytes.HasPrefix(out, []byte("kept")) || err != nil && len(out) != 4 {
			t.Fatalf("codec %d: %d bytes, %v: what was there is changed", codec, len(out), err)
		}
		if len(out)-4 > int(limit) {
			t.Fatalf("codec %d: %d bytes, limit %d", codec, len(out)-4, limit)
		}
		if whole := packed[codec]; whole != nil && int(limit) >= len(text) {
			if out, err := d.append(nil, whole, codec); err != nil || !bytes.Equal(out, text) {
				t.Fatalf("codec %d, after %x: %d bytes, %v", codec, src, len(out), err)
			}
		}
	})
}

// FuzzConnection: what Validate takes gives a transport, or an error that says which part of
// the login a mechanism refuses; no text of an error holds the password.
func FuzzConnection(f *testing.F) {
	for _, m := range []string{"", Plain, ScramSHA256, ScramSHA512, "gssapi"} {
		f.Add("kafka-1:9092", m, "user", "canary-4711", "", false)
	}
	f.Add("[::1]:1", ScramSHA256, "us\u00ader\x00", "\u06dd\u0627pa\x7fss word", "ca.pem", true)
	f.Fuzz(func(t *testing.T, broker, mechanism, user, password, server string, on bool) {
		c := DefaultConnection()
		c.Brokers = []string{broker}
		c.SASL.Mechanism, c.SASL.User, c.SASL.Password = mechanism, user, pipeline.Secret(password)
		c.TLS.Enabled, c.TLS.ServerName = on, server
		invalid := c.Validate()
		tr, err := c.Transport()
		if invalid != nil && err == nil {
			t.Fatalf("a transport of what Validate refuses: %v", invalid)
		}
		if err == nil {
			if (tr.SASL != nil) != (mechanism != "") || (tr.TLS != nil) != on {
				t.Fatalf("transport with sasl %v and tls %v, asked for %q and %v", tr.SASL, tr.TLS != nil, mechanism, on)
			}
			return
		}
		// Short passwords may be in any text, and a broker's name or a mechanism is quoted.
		hidden := len(password) > 6 && !bytes.Contains([]byte(broker+mechanism+user+server), []byte(password)) &&
			!bytes.Contains(fmt.Appendf(nil, "%q %q", broker, mechanism), []byte(password)) &&
			!bytes.Contains([]byte("sasl: user or password holds characters that is not one of without mechanism"), []byte(password))
		if text := err.Error(); text == "" || hidden && bytes.Contains([]byte(text), []byte(password)) {
			t.Fatalf("error %q with password %q", text, password)
		}
	})
}
